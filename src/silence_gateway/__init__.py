"""Silence Gateway: an API gateway whose three engines are also libraries for any asyncio program."""
