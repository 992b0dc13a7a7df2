"""What the tools in ``tools/analysis`` do, from a config to pictures and numbers."""
