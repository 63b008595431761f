"""asyncio: calls through `to_thread`, while the loop's own thread calls as well."""

import asyncio

from work import serial, work


async def main():
    for _ in range(10):
        calls = [asyncio.to_thread(work) for _ in range(6)]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        assert work() == expected
        assert set(await asyncio.gather(*tasks)) == {expected}


expected = serial()
asyncio.run(main())
