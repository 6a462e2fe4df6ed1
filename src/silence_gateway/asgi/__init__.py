"""Limits in other people's apps: ASGI middleware, a decorator and a dependency for web frameworks."""
