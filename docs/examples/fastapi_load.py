"""40 uploads at once through `fastapi_app.py`, while the store takes 3 seconds to complete each.

`python fastapi_load.py [SECONDS]` prints how many are done, and how long the application's own `def` endpoint takes
meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx
from fastapi_app import app
from serving import serving
from slow_store import SlowStore

UPLOADS = 40
"""As many as FastAPI has threads for `def` endpoints."""
BODY = bytes(100_000)


async def measure(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        putting = asyncio.create_task(put_all(client, "async"))
        worst = 0.0
        while not putting.done():
            before = time.perf_counter()
            await client.get("/own")
            worst = max(worst, time.perf_counter() - before)
            await asyncio.sleep(0.05)
        print(f"{UPLOADS} uploads at once by an async endpoint: {await putting}")
        print(f"the application's own sync endpoint meanwhile: {worst * 1e3:.0f} ms at worst")
        print(f"{UPLOADS} uploads at once by a sync endpoint: {await put_all(client, 'sync')}")


async def put_all(client: httpx.AsyncClient, endpoint: str) -> str:
    """Return how many uploads succeeded, and the seconds that all took."""
    before = time.perf_counter()
    puts = (client.put(f"/{endpoint}/file-{n}", content=BODY) for n in range(UPLOADS))
    answers = await asyncio.gather(*puts, return_exceptions=True)
    done = sum(isinstance(answer, httpx.Response) and answer.is_success for answer in answers)
    return f"{done} done in {time.perf_counter() - before:.1f} s"


def main() -> None:
    with SlowStore(complete=float(sys.argv[1]) if len(sys.argv) > 1 else 3.0) as store:
        app.state.s3 = store.options
        with serving(app) as url:
            asyncio.run(measure(url))


if __name__ == "__main__":
    main()
