"""Servers for the tests of providers."""

from tests.servers.fixtures import chaos as chaos
from tests.servers.fixtures import openai_server as openai_server
from tests.servers.llama import llama_url as llama_url
