"""Records a conversation with pumice on a terminal, and draws recordings: tools/cast.sh.

    cast.py record CAST       types the questions below, and writes an asciicast (version 2)
    cast.py draw CAST SVG     draws an asciicast as an animated SVG, whose last picture stays where nothing moves

A line of the terminal is an element that is visible while it stands there, so that the file is as long as what changes.
"""

import fcntl
import html
import json
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time

import pyte

COLUMNS, ROWS = 80, 18
COMMAND = ["pumice", "--quiet", "chat", "smollm2", "--temp", "0"]
PROMPT = ">>> "
QUESTIONS = ["What is the capital of France? Answer in one sentence.", "And of Italy?", "/new code", "Write a Python function that adds two numbers. Only code.", "/bye"]
KEY = 0.04  # seconds between keys
QUIET = 0.5  # without output, after which a prompt is the last one

LONGEST = 1.0  # pause in the picture
END = 4.0  # seconds that the last picture stays
FONT, LINE, CHAR = 14, 18, 8.4  # 0.6 of the font's size is a column of the usual fonts
FOREGROUND, BACKGROUND = "#d8dee9", "#1d2229"
COLOURS = {
    "black": "#4c566a", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef", "magenta": "#c678dd",
    "cyan": "#56b6c2", "white": "#d8dee9", "brightblack": "#7f8896", "brightred": "#ff8891", "brightgreen": "#b6e09a",
    "brightbrown": "#ffdd9b", "brightblue": "#86c8ff", "brightmagenta": "#e2a0f5", "brightcyan": "#7fd6e0", "brightwhite": "#ffffff",
}  # fmt: skip


def record(name):
    """Types each question at a prompt, and writes what the terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.environ.update(XDG_STATE_HOME=tempfile.mkdtemp())  # its history is nobody's
        os.execvp(COMMAND[0], COMMAND)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    events, shown, start = [], "", time.monotonic()
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)

    def read(patience):
        nonlocal shown
        if not select.select([terminal], [], [], patience)[0]:
            return False
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the program has ended
            return None
        if not data:
            return None
        stream.feed(data)
        events.append((time.monotonic() - start, data))
        return True

    for question in QUESTIONS:
        while True:
            got = read(QUIET)
            if got is None:
                sys.exit("cast.py: the program ended: " + "\n".join(screen.display))
            before = screen.display[screen.cursor.y][: screen.cursor.x]
            if not got and before.endswith(PROMPT):
                break
        for key in question + "\r":
            os.write(terminal, key.encode())
            until = time.monotonic() + KEY
            while (left := until - time.monotonic()) > 0 and read(left) is not None:
                pass
    while read(10) is not None:
        pass
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(f"cast.py: the program ended with status {os.waitstatus_to_exitcode(status)}")
    with open(name, "w", encoding="utf-8") as f:
        json.dump({"version": 2, "width": COLUMNS, "height": ROWS, "title": " ".join(COMMAND)}, f)
        f.write("\n")
        rest = b""
        for at, data in events:
            data = rest + data
            text = data.decode("utf-8", errors="ignore")  # a character that a read has cut is written with the next one
            rest = data[len(text.encode()):]
            json.dump([round(at, 3), "o", text], f, ensure_ascii=False)
            f.write("\n")


def draw(name, picture):
    with open(name, encoding="utf-8") as f:
        head, *events = [json.loads(line) for line in f]
    screen = pyte.Screen(head["width"], head["height"])
    stream = pyte.Stream(screen)
    at, last = 0.0, 0.0
    present = {}  # row -> (since, markup)
    spans = []  # (row, from, to, markup)
    for time_, kind, data in events:
        if kind != "o":
            continue
        at += min(time_ - last, LONGEST)
        last = time_
        stream.feed(data)
        for row in screen.dirty:
            since, old = present.get(row, (0.0, ""))
            new = markup(screen.buffer[row], screen.columns)
            if new != old:
                if old and at > since:
                    spans.append((row, since, at, old))
                present[row] = (at, new)
        screen.dirty.clear()
    total = at + END
    spans += [(row, since, None, text) for row, (since, text) in present.items() if text]
    width, height = head["width"] * CHAR + 2 * FONT, head["height"] * LINE + 2 * FONT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{html.escape(head.get('title', name))}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>',
        f'<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="{FONT}" fill="{FOREGROUND}" xml:space="preserve">',
    ]
    for row, since, until, text in sorted(spans, key=lambda s: (s[0], s[1])):
        out.append(f'<g transform="translate({FONT},{FONT + row * LINE + FONT})" visibility="{"hidden" if until else "visible"}">{text}{animation(since, until, total)}</g>')
    out += ["</g>", "</svg>"]
    with open(picture, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")


def animation(since, until, total):
    """Shows an element for a part of each round."""
    values, times = ["hidden", "visible"], [0.0, since / total]
    if since == 0:
        values, times = ["visible"], [0.0]
    if until:
        values.append("hidden")
        times.append(until / total)
    if len(values) == 1:
        return ""
    listed = ";".join(f"{t:.4f}".rstrip("0").rstrip(".") for t in times)
    return f'<animate attributeName="visibility" values="{";".join(values)}" keyTimes="{listed}" calcMode="discrete" dur="{total:.2f}s" repeatCount="indefinite"/>'


def markup(line, columns):
    """A row of the terminal: a text element for each run of characters that look alike."""
    runs, at = [], 0
    while at < columns:
        c = line[at]
        if c.data == " " and c.bg == "default" and not c.reverse:
            at += 1
            continue
        first, text = at, ""
        while at < columns and look(line[at]) == look(c):
            text += line[at].data  # empty behind a wide character
            at += 1
        runs.append((first, text.rstrip() if not c.reverse else text, look(c)))
    return "".join(
        f'<text x="{first * CHAR:.1f}"{style}>{html.escape(text, quote=False)}</text>' for first, text, style in runs
    )  # fmt: skip


def look(c):
    fg = c.bg if c.reverse else c.fg
    style = ""
    if fg != "default":
        style += f' fill="{COLOURS.get(fg, "#" + fg)}"'
    if c.bold:
        style += ' font-weight="bold"'
    if c.italics:
        style += ' font-style="italic"'
    if c.underscore:
        style += ' text-decoration="underline"'
    return style


if len(sys.argv) == 3 and sys.argv[1] == "record":
    record(sys.argv[2])
elif len(sys.argv) == 4 and sys.argv[1] == "draw":
    draw(sys.argv[2], sys.argv[3])
else:
    sys.exit(__doc__)
