"""The catalogue of the extension's messages: every text in the sources that a user may read, taken from the sources
themselves, so that none is without a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pages import ROOT, Page

# Texts with a blank in them that are no messages, and why.
NO_MESSAGES = [
    r"^[XS]\{\}|^ ?\{\} ?\{|^\{\} \{\}$",  # records and answers on the wire
    r"^\^", r"^%",  # patterns
    r"^\{\}(: \{\}|; \{\}| \(\{\}\)| \{\} \{\}\{\}|\{\} \{\}\{\})?$",  # only a frame around another
    r"^Lock \"\{\}\": \{\}$", r"^lock \"\{\}\": \{\}$",  # the frame of all messages about a lock
    r"^ \(\{\} |^… \(\{\} more characters\)$",  # how other texts are cut
    r"^node \{\}, pid \{\}$",  # who holds a lock, inside other messages
    r"^lock (on a file|of )", r"^a loan holds a connection$",
    r"^cluster_lock: \{\}$",
    r"^not begun$",  # how a grace period stands, in reports
    r"^(look at|wait in)$",  # put into "cannot {}"
    r"^, with args$", r"^ \(os error$", r"^CLUSTER SLOTS$", r"^SENTINEL GET", r"^--#include", r"^cluster_lock support$",
    r"^redis://\[user",  # what is allowed, behind what is wrong
    r"^scripting engine$|^user executing the script$|^Error running script$|^acl failure in script$|^invalid password$",  # by which what a server says is recognised
]
SOURCES = ("core/src/**/*.rs", "core/src/store/scripts/*.lua", "src/**/*.rs", "src/*.c")
# What settings may be, which the table of docs/php-ini.md has.
RANGES = set(re.findall(r"^\| \[`cluster_lock\.[^|]*\|[^|]*\| *([^|]*?) *\|", (ROOT / "docs/php-ini.md").read_text(), re.M))
# Used by tests only, or generated.
LEFT_OUT = ("tests.rs", "sabotage.rs", "cluster_lock_arginfo.h")


@dataclass(frozen=True)
class Message:
    text: str
    """With {} for what is put in."""
    place: str


def literals(path: Path) -> list[tuple[int, str]]:
    """The string literals of a Rust or C file outside comments, attributes and test modules, with their lines."""
    text = path.read_text()
    if path.suffix == ".lua":
        errors = re.finditer(r"error_reply\('([^']*)'\)", text)
        return [(text.count("\n", 0, match.start()) + 1, match[1]) for match in errors]
    if path.suffix == ".rs":
        text = text.partition("#[cfg(test)]\nmod ")[0]
    token = re.compile(
        r"//[^\n]*|/\*.*?\*/"  # comments
        r"|#include[^\n]*"
        r"|'(?:\\.[^']*|[^'\\])'"  # characters; a lifetime has no second quote so near
        r"|\b[bc]?r(#*)\"(?P<raw>.*?)\"\1"
        r"|(?P<bytes>\b[bc])?\"(?P<plain>(?:\\.|[^\"\\])*)\"", re.S)
    found = []
    for match in token.finditer(text):
        plain = match["plain"] if match["plain"] is not None else match["raw"]
        if plain is None or match["bytes"]:
            continue
        line = text.count("\n", 0, match.start()) + 1
        plain = re.sub(r"\\\n\s*", "", plain)
        plain = plain.replace('\\"', '"').replace("\\\\", "\\").replace("{{", "{").replace("}}", "}")
        found.append((line, re.sub(r"\{[^{}\s]*\}|%(s|d|u|zu|\.\*s|\.0f)", "{}", plain)))
    return found


def is_message(text: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", text)
    return " " in text.strip() and (len(words) > 1 or "cannot" in text) and not any(re.search(no, text)
                                                                                   for no in NO_MESSAGES)


def all_messages() -> list[Message]:
    messages = {}
    for glob in SOURCES:
        for path in sorted(ROOT.glob(glob)):
            if path.name in LEFT_OUT:
                continue
            for line, text in literals(path):
                if is_message(text) and text not in RANGES:
                    messages.setdefault(text, Message(text, f"{path.relative_to(ROOT)}:{line}"))
    return list(messages.values())


def pages_of(text: str, pages: list[Page]) -> list[Page]:
    return [page for page in pages if any(re.search(covered, text) for covered in page.front.get("messages", []))]


def is_example(page: Page) -> bool:
    """Whether what its blocks print has one of the page's messages in it."""
    shown = "\n".join(part.text for block in page.blocks for part in (block, block.output, block.log)
                      if part and part.kind in ("output", "log"))
    texts = [message.text for message in all_messages() if pages_of(message.text, [page])]
    patterns = [".*?".join(map(re.escape, text.split("{}"))) for text in texts]
    return any(re.search(pattern, shown) for pattern in patterns + page.front.get("also", []))


def unexplained(pages: list[Page]) -> list[str]:
    """What the catalogue and the pages on errors disagree about."""
    pages = [page for page in pages if page.path.parent.name == "errors" and page.path.name != "README.md"]
    wrong, used = [], set()
    for message in all_messages():
        found = pages_of(message.text, pages)
        used |= {(page.name, covered) for page in found for covered in page.front["messages"]
                 if re.search(covered, message.text)}
        if len(found) != 1:
            names = ", ".join(page.name for page in found) or "no page"
            wrong.append(f"{message.place}: \"{message.text}\" belongs to {names}, not to one page of docs/errors")
    index = (ROOT / "docs/errors/README.md").read_text()
    for page in pages:
        if not page.front.get("messages"):
            wrong.append(f"{page.name} does not say which messages it explains")
        for covered in page.front.get("messages", []):
            if (page.name, covered) not in used:
                wrong.append(f"{page.name}: there is no message like {covered}")
        if page.front.get("example") != "none" and not is_example(page):
            wrong.append(f"{page.name} has no example of one of its messages")
        if f"]({page.path.name})" not in index:
            wrong.append(f"docs/errors/README.md does not name {page.path.name}")
    return wrong
