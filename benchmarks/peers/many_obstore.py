"""obstore's put_async of each file, as many at once as `options` say."""

import asyncio
import os
from pathlib import Path

import obstore
from _peer import Job, Send, main
from obstore.store import S3Store


def connect(job: Job) -> Send:
    store = S3Store(
        job.bucket,
        endpoint=job.url,
        region=job.region,
        access_key_id=job.access_key,
        secret_access_key=job.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def send(directory: str, prefix: str) -> None:
        room = asyncio.Semaphore(job.options["at_once"])

        async def put(entry: "os.DirEntry[str]") -> None:
            async with room:
                await obstore.put_async(store, prefix + entry.name, Path(entry.path))

        with os.scandir(directory) as entries:
            await asyncio.gather(*map(put, entries))

    def run(directory: str, prefix: str) -> None:
        asyncio.run(send(directory, prefix))
        os._exit(0)  # its threads abort some interpreters that end: exit status -6, after all was sent

    return run


main(connect)
