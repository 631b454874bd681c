"""`metta_cli.testing` has the contracts under the names of the guide, and is quick to import."""

import subprocess
import sys

import pytest

import metta_cli.testing
from metta_cli.testing import LoaderContract, PolicyContract


def test_the_contracts_are_found_where_the_guide_has_them():
    assert PolicyContract.__module__ == "metta_cli.testing.contracts"
    assert LoaderContract.__module__ == "metta_cli.testing.loaders"
    with pytest.raises(AttributeError, match="has no attribute Nothing"):
        metta_cli.testing.Nothing  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, metta_cli.testing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
