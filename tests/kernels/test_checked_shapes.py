"""The hook that checks shapes in tests leaves alone what Triton compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As if the conftest imported a kernel: inside of the hook. Then it is compiled.
COMPILES = """
import sys
import jaxtyping
from tests.conftest import CHECKED, TYPE_CHECKER
assert "diffusers_rdaam.kernels.fused_text" not in sys.modules
print(*CHECKED)
with jaxtyping.install_import_hook(CHECKED, TYPE_CHECKER):
    import diffusers_rdaam.kernels.fused_text
    import diffusers_rdaam.kernels.fused_long
from tests.kernels import compilation
for name, module in compilation.KERNELS.items():
    setattr(module, name, compilation.Compiles(getattr(module, name), 90, {}))
compilation.compile_case((2, 4, 35, 7, 5, "float16"), "maps_only")
"""


@pytest.mark.slow
def test_kernels_that_are_imported_inside_of_the_hook_can_be_compiled():
    pytest.importorskip("triton", reason="Triton is not installed")
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names, compiled = done.stdout.splitlines()[:2]
    assert '"kernel": "attend_to_text"' in compiled
    checked = {name.removeprefix("diffusers_rdaam.") for name in names.split()}
    assert {"kernels.portable", "kernels.planes", "recording.records.queries"} <= checked
    assert not {"kernels", "kernels.fused_text", "kernels.fused_long"} & checked
