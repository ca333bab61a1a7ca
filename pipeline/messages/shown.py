"""Text from the stream, as a reason may show it: one short line, whatever it holds."""

SHOWN = 60
"""Characters of a message's own that a reason quotes at most."""


def shown(text: str, most: int = SHOWN) -> str:
    """Cut a text and write what cannot be printed as escapes: no line end, no terminal code, no half surrogate."""
    written: list[str] = []
    length = 0
    for character in text[:most]:
        one = character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        length += len(one)
        if length > most - 1:
            return "".join(written) + "…"
        written.append(one)
    return "".join(written) + ("…" if len(text) > most else "")


def quoted(text: str, most: int = SHOWN) -> str:
    """Show a text in double quotes."""
    return f'"{shown(text, most - 2)}"'
