"""Commands of the operator's own that restart or redeploy something."""

from __future__ import annotations

import asyncio
import time

from scripts.drills.report import DrillFailed, Report

COMMAND_SECONDS = 180.0


async def run_command(report: Report, command: str) -> None:
    """Runs it in a shell, as it would be typed; raises DrillFailed when it does not succeed."""
    report.command(command)
    started = time.perf_counter()
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise DrillFailed(f"the command did not end within {COMMAND_SECONDS:.0f} s") from None
    if code != 0:
        raise DrillFailed(f"the command ended with {code}")
    report.saw(f"the command took {time.perf_counter() - started:.1f} s")
