"""Settings of the `nextstep` command, as YAML over the dataclasses of nextstep_agents.settings."""
