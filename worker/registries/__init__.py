"""The kinds of registries. Each module has `push(order) -> Pushed`; all run in a process of their own."""
