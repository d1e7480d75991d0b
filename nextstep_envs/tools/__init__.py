"""Tools that models may call beside those of their world: plain functions, and tools of MCP servers."""
