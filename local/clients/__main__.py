"""`make client`: a Python client and TypeScript types, generated from the OpenAPI document into client/.

The document is that of the functions in this directory; no cloud is needed. The types need npm, which this says.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
NO_NPM = "TypeScript: left out, there is no npm here (Node.js 20 or later has it)"


def main() -> int:
    """Generate both; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.clients", description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "client", help="the directory; emptied first")
    target: Path = parser.parse_args().target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    document = target / "openapi.json"
    document.write_text(json.dumps(_document(), indent=2, ensure_ascii=False))
    try:
        _python(document, target / "python")
        print(f"Python: {target / 'python'} (pip install it; the package is atelier_client)")
        npm = shutil.which("npm")
        if npm is None:
            print(NO_NPM)
            return 0
        _typescript(npm, document, target / "typescript")
        print(f"TypeScript: {target / 'typescript' / 'atelier.d.ts'}, and sample.ts beside it")
    except subprocess.CalledProcessError as error:
        print(f"{error.stdout}\nerror: {' '.join(error.cmd[:3])} … failed", file=sys.stderr)
        return 1
    return 0


def _document() -> object:
    sys.path.append(str(ROOT / "functions"))
    from api import openapi

    return openapi.document()


def _python(document: Path, target: Path) -> None:
    # The generator tidies up with the ruff that is beside it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--path", str(document)]
    _run([*command, "--config", str(HERE / "python.yaml"), "--output-path", str(target)], path=path)


def _typescript(npm: str, document: Path, target: Path) -> None:
    """The types, and the proof that the sample compiles against them."""
    shutil.copytree(HERE / "typescript", target)
    _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=target)
    # A field with a default may be left out of a request.
    options = ["--default-non-nullable", "false", "--output", "atelier.d.ts"]
    _run([npm, "exec", "--", "openapi-typescript", str(document), *options], cwd=target)
    _run([npm, "exec", "--", "tsc", "--project", "."], cwd=target)
    shutil.rmtree(target / "node_modules")


def _run(command: list[str], *, cwd: Path = ROOT, path: str | None = None) -> None:
    environment = os.environ | ({"PATH": path} if path else {})
    subprocess.run(
        command, cwd=cwd, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


if __name__ == "__main__":
    sys.exit(main())
