"""The fixtures of the kit, also in a bare checkout, where no entry point brings them."""

from lmbridge.testing.pytest_plugin import fault_server

__all__ = ["fault_server"]
