"""``corral run TOOL``, by the real command in real sandboxes."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .conftest import CORRAL
