"""Serve a search for sentences from a pool of threads in this process, and see how long its clients wait.

`python examples/serve.py` warms up, so that no request pays for compiling. Then clients ask for the sentence nearest
to a question, each one question after the other: first of one thread, then of one per core. It prints the requests
per second and the percentiles of the latency, which is a client's: it includes the time in the queue.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from minilm_model import Array, MiniLM, lines
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from fastnorm import set_num_threads


class Server:
    """Threads that answer one request each, and each of them on one core."""

    def __init__(self, model: MiniLM, sentences: list[str], threads: int) -> None:
        self.model, self.sentences = model, sentences
        self.pool = ThreadPoolExecutor(threads, initializer=set_num_threads, initargs=(1,))
        # The threads make the index themselves: with that they are started, and every kernel is there.
        self.index = np.array(list(self.pool.map(self.embed, sentences)))

    def embed(self, sentence: str) -> Array:
        row: Array = self.model.embed([sentence])[0]
        return row

    def nearest(self, question: str) -> str:
        return self.sentences[int((self.index @ self.embed(question)).argmax())]

    def ask(self, question: str) -> str:
        """What a client calls: wait for a thread, and for its answer."""
        return self.pool.submit(self.nearest, question).result()


class Load(NamedTuple):
    clients: int
    requests: int
    seconds: float


def measure(server: Server, questions: list[str], load: Load) -> tuple[Array, float]:
    """The latency of each request, and the seconds of all; what has not been asked when the time is up never is."""
    asked = [questions[i % len(questions)] for i in range(load.requests)]
    progress = tqdm(total=load.requests, desc="requests", leave=False, disable=None)
    begin = time.perf_counter()

    def client(number: int) -> list[float]:
        waited = []
        for question in asked[number :: load.clients]:
            start = time.perf_counter()
            if start - begin > load.seconds:
                break
            server.ask(question)
            waited.append(time.perf_counter() - start)
            progress.update()
        return waited

    with progress, ThreadPoolExecutor(load.clients) as clients:
        waited = np.concatenate(list(clients.map(client, range(load.clients))))
    return waited, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="that answer, in the second run")
    parser.add_argument("--clients", type=int, default=4, help="that ask at the same time")
    parser.add_argument("--requests", type=int, default=400, help="in each run, at most")
    parser.add_argument("--seconds", type=float, default=30, help="for each run, at most")
    arguments = parser.parse_args()
    load = Load(arguments.clients, arguments.requests, arguments.seconds)

    # The cores are taken by requests: within one, NumPy's matmul stays on its own.
    threadpool_limits(1, user_api="blas")
    model, sentences, questions = MiniLM(), lines("sentences.txt"), lines("questions.txt")
    start = time.perf_counter()
    model.embed(sentences[:1])
    loading = time.perf_counter() - start
    print(f"The first sentence, kernels loaded from Numba's cache or compiled: {loading:.2f} s\n")

    print(f"{'threads':>7}{'requests':>10}{'per second':>12}   first     p50     p90     p99     max")
    for threads in sorted({1, arguments.threads}):
        server = Server(model, sentences, threads)
        start = time.perf_counter()
        server.ask(questions[0])
        first = time.perf_counter() - start
        waited, seconds = measure(server, questions, load)
        times = 1e3 * np.array([first, *np.percentile(waited, (50, 90, 99, 100))])
        shown = "".join(f"{ms:8.1f}" for ms in times)
        print(f"{threads:7}{len(waited):10}{len(waited) / seconds:12.1f}{shown} ms")


if __name__ == "__main__":
    main()
