"""Public fakes: a clock that moves when told, an upstream that follows a script."""
