"""The HTTP surface: routes, authentication, errors."""
