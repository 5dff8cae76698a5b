"""The compression science: model + recipe + data in, smaller model + report out. Knows no job and no HTTP."""
