"""The plugin "nextstep-verifiers": verifiers looks for an environment in a module of its own name."""

from wrappers.interfaces.verifiers import ChatHarness, NextStepEnv, NextStepTaskset

__all__ = ["ChatHarness", "NextStepEnv", "NextStepTaskset"]
