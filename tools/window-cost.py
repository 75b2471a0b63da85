#!/usr/bin/env python3
"""Measures what the window costs a chat: two pumice chat, one with --window on a screen of Xvfb, are asked the same questions, turn
and turn about, and say how many tokens a second each answer had. The processor time of a token counts what the driver and the
window take, and depends less on what else the machine does.

  make window && tools/window-cost.py [--pumice bin/pumice] [--model smollm2] [--seconds 60] [--tokens 256]

Each chat generates for so many seconds at least; an answer has so many tokens at most. Needs Xvfb (tools/setup.sh window).
"""

import argparse
import os
import pathlib
import pty
import random
import re
import select
import statistics
import subprocess
import sys
import time

QUESTIONS = ["Tell me a long story about a river.", "Explain how a steam engine works.", "Describe a day in a large city.",
             "What should I know about growing tomatoes?"]


class Chat:
    """A conversation on a terminal of its own."""

    def __init__(self, command):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, dict(os.environ, TERM="xterm"))
        self.seen = b""
        self.tokens, self.seconds, self.processor = [], [], []
        self.read_until(rb">>> ?")

    def read_until(self, pattern, limit=600):
        end = time.monotonic() + limit
        while not (found := re.search(pattern, self.seen)):
            if select.select([self.terminal], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.terminal, 65536)
                except OSError:
                    sys.exit(f"window-cost: the chat ended: {self.seen[-2000:].decode(errors='replace')}")
            if time.monotonic() > end:
                sys.exit(f"window-cost: no answer: {self.seen[-2000:].decode(errors='replace')}")
        self.seen = self.seen[found.end():]
        return found

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, question):
        before = self.processor_seconds()
        os.write(self.terminal, question.encode() + b"\r")
        found = self.read_until(rb"answer (\d+) tokens ([\d.]+) t/s")
        self.tokens.append(int(found[1]))
        self.seconds.append(int(found[1]) / float(found[2]))
        self.processor.append(self.processor_seconds() - before)
        time.sleep(0.3)
        os.write(self.terminal, b"/reset\r")
        time.sleep(0.3)

    def close(self):
        os.write(self.terminal, b"/bye\r")
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:
            pass
        os.waitpid(self.pid, 0)


def interval(ratios):
    """The mean of ratios, and its 95 % interval by bootstrap."""
    source = random.Random(1)
    means = sorted(statistics.mean(source.choices(ratios, k=len(ratios))) for _ in range(10000))
    return f"{statistics.mean(ratios):.3f} ({means[250]:.3f} to {means[9749]:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pumice", default=str(pathlib.Path(__file__).resolve().parent.parent / "bin" / "pumice"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=256)
    args = parser.parse_args()
    number, ends = os.pipe()
    screen = subprocess.Popen(["Xvfb", "-displayfd", str(ends), "-screen", "0", "1200x800x24", "-nolisten", "tcp"], pass_fds=[ends],
                              stderr=subprocess.DEVNULL)
    os.close(ends)
    try:
        os.environ["DISPLAY"] = ":" + os.read(number, 16).decode().strip()
        command = [os.path.abspath(args.pumice), "chat", args.model, "--verbose", "--plain", "--temp", "0", "-n", str(args.tokens)]
        without, shown = Chat(command), Chat([*command, "--window"])
        turn = 0
        while min(sum(without.seconds), sum(shown.seconds)) < args.seconds:
            for chat in (without, shown) if turn % 2 == 0 else (shown, without):
                chat.ask(QUESTIONS[turn % len(QUESTIONS)])
            turn += 1
        without.close()
        shown.close()
    finally:
        screen.terminate()
        screen.wait()
    for name, chat in ("without", without), ("with", shown):
        tokens, seconds = sum(chat.tokens), sum(chat.seconds)
        print(f"{name:8} {tokens} tokens in {seconds:.1f} s, {turn} answers: {tokens / seconds:.2f} tokens a second, "
              f"{1000 * sum(chat.processor) / tokens:.2f} ms of processor time a token")
    speeds = [a / b for a, b in zip(without.seconds, shown.seconds)]
    processor = [b / a for a, b in zip(without.processor, shown.processor)]
    print(f"with over without, the mean of pairs and its 95 % interval: tokens a second {interval(speeds)}, "
          f"processor time {interval(processor)}; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
