"""The only code that knows Valkey and Redis, behind contracts that a memory store keeps as well."""
