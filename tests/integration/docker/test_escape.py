"""The attacks on the embedded sandbox, on a container."""

from integration.sandbox.test_escape_files import *  # noqa: F403 - every test of it, as it is
from integration.sandbox.test_escape_kernel import *  # noqa: F403
from integration.sandbox.test_escape_runner import *  # noqa: F403
from integration.sandbox.test_hostile_tool import *  # noqa: F403
