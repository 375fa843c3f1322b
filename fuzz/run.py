"""Fuzz one target with atheris, from the corpus that is kept: ``python fuzz/run.py sse --seconds 60``.

What breaks a promise is written to ``fuzz/found/``, made as small as it gets; what is new is kept only with
``--keep``, merged into ``fuzz/corpus/`` so that a file is there only for what no other reaches.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: A stream longer than this finds nothing that a shorter one does not, and is slow.
_MAX_LENGTH = 2048
#: Seconds that one input may take: many times what the slowest takes, for slow machines.
_STALL = 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=("addresses", "reasoning", "sse"))
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="merge what is new into the corpus that is kept")
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args()


def _fuzz(target: str, arguments: list[str]) -> None:
    """Run libFuzzer in this process; it ends the process."""
    import atheris  # noqa: PLC0415 - only the child needs it

    sys.path[:0] = [str(HERE), str(HERE.parent)]
    with atheris.instrument_imports(
        include=["lmbridge.sse", "lmbridge.reasoning", "lmbridge.settings.addresses"]
    ):
        from targets import TARGETS  # noqa: PLC0415 - imported under instrumentation
    # To merge, libFuzzer starts itself again, by the first of its arguments.
    again = " ".join([sys.executable, str(Path(__file__).resolve()), target, "--libfuzzer"])
    atheris.Setup([again, *arguments], TARGETS[target])
    atheris.Fuzz()


def _child(target: str, *arguments: str) -> int:
    command = [sys.executable, str(Path(__file__)), target, "--libfuzzer", *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - this very script


def _main() -> int:
    options = _options()
    if options.libfuzzer is not None:
        _fuzz(options.target, options.libfuzzer)
    try:
        import atheris  # noqa: F401, PLC0415 - asked for before anything is begun
    except ImportError:
        print("fuzzing needs atheris, which has wheels for Linux only: skipped")  # noqa: T201
        return 0
    kept, found = HERE / "corpus" / options.target, HERE / "found"
    found.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as new:
        common = [
            f"-artifact_prefix={found}/{options.target}-",
            f"-max_len={_MAX_LENGTH}",
            f"-timeout={_STALL}",
        ]
        code = _child(
            options.target,
            new,
            str(kept),
            *common,
            f"-max_total_time={options.seconds}",
            "-print_final_stats=1",
        )
        if code == 0 and options.keep:
            code = _child(options.target, "-merge=1", str(kept), new, *common)
    return code


if __name__ == "__main__":
    sys.exit(_main())
