"""The contract between api and worker: settings, tables, states, service, artifact store, wake-up queue."""
