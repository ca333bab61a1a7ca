"""`make reference`: write the pages of docs/reference/ from the code."""

import sys

from tests.reference import pages, views
from tests.servers import PostgreSQL, fresh_database


def main() -> None:
    """Write every page; views.md needs a PostgreSQL server, which is started here."""
    texts = {name: write() for name, write in pages.PAGES.items()}
    reason = PostgreSQL.missing()
    if reason:
        sys.stderr.write(f"views.md stays as it is: {reason}; install PostgreSQL to write it\n")
    else:
        with PostgreSQL() as server:
            texts[pages.VIEWS] = views.write(views.read_columns(fresh_database(server.port)))
    for name, text in texts.items():
        file = pages.FOLDER / name
        changed = not file.exists() or file.read_text(encoding="utf-8") != text
        file.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{file.relative_to(pages.FOLDER.parents[1])}: {'written' if changed else 'up to date'}\n")


main()
