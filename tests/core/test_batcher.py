"""What may wait a moment waits no longer, is done once for many, and is never lost between loops and
threads."""
import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

from mlfin.core.batcher import Batcher

WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Work:
    """Notes what was done, when and as whom."""
    def __init__(self, seconds=0.005):
        self.done, self.who, self.add = [], [], Batcher(self.do, seconds)

    def do(self, things):
        self.who.append(WHO.get())
        self.done.append(things)


def apart(work):
    "In a thread: another test of this worker may keep a loop here."
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


def test_many_are_done_once_and_soon_and_as_nobody():
    work = Work()

    async def serve():
        WHO.set("ann")
        for n in range(100):
            work.add(n)
            if n % 10 == 0:
                await asyncio.sleep(0)
        assert not work.done
        begin = time.monotonic()
        while not work.done:
            await asyncio.sleep(0.001)
        assert time.monotonic() - begin < 2
        work.add("more")
        await asyncio.sleep(0.1)
    apart(serve)
    assert work.done == [list(range(100)), ["more"]] and set(work.who) == {"nobody"}


def test_where_no_loop_runs_it_is_done_now():
    work = Work(seconds=60)
    thread = threading.Thread(target=work.add, args=("a",))
    thread.start()
    thread.join()
    assert work.done == [["a"]]


def test_what_a_loop_left_is_done_by_whoever_asks_next():
    work = Work(seconds=0.01)

    async def leave():
        work.add("left")

    async def come():
        work.add("came")
        await asyncio.sleep(0.1)
    apart(leave)
    assert not work.done
    apart(come)
    assert work.done == [["left", "came"]]


def test_loops_and_threads_together_lose_nothing():
    work = Work(seconds=0.001)

    async def serve(who):
        for n in range(300):
            work.add((who, n))
            if n % 7 == 0:
                await asyncio.sleep(0.0005)
        await asyncio.sleep(0.05)
    threads = [threading.Thread(target=lambda w=w: asyncio.run(serve(w))) for w in range(3)]
    threads.append(threading.Thread(target=lambda: [work.add((3, n)) for n in range(300)]))
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    work.add.flush()
    assert all(work.done)  # never called for nothing
    assert sorted(x for taken in work.done for x in taken) == [(w, n) for w in range(4) for n in range(300)]
