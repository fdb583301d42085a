"""Reading run folders must not cost the import of Keras: reports and grids would pay four seconds each."""

import subprocess
import sys


def test_run_folders_do_not_import_keras() -> None:
    modules = "common.runs.files, common.runs.folder, common.runs.finished"
    code = f"import sys, {modules}; assert 'keras' not in sys.modules, 'keras was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
