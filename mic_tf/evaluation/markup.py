"""Parts of a page that needs nothing but itself: tables, pictures, players."""

import base64
import html
import importlib.resources
import io
import string
import wave
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mic_tf.taxonomy import SAMPLE_RATE


class Markup(str):
    """Text that is HTML already; every other string is escaped where it is shown."""


def text(value: Any) -> Markup:
    """A value as HTML."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def element(name: str, *content: Any, **attributes: Any) -> Markup:
    """One element; `class_` is the attribute class, False leaves an attribute out."""
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not False:
            words.append(f'{key}="{html.escape(str(value))}"')
    return Markup(f"<{' '.join(words)}>{joined(content)}</{name}>")


def joined(parts: Iterable[Any]) -> Markup:
    return Markup("".join(text(part) for part in parts))


def section(title: str, identity: str, *content: Any) -> Markup:
    """A section with its heading, which gives it its name."""
    heading = element("h2", title, id=identity)
    return element("section", heading, *content, aria_labelledby=identity)


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    text_columns: Sequence[int] = (),
    class_: str = "",
    tall: bool = False,
) -> Markup:
    """A table whose first column heads the rows.

    Args:
      caption: shown above, and the name of its scrolling region.
      headers: of the columns.
      rows: cells; one that is a `<td>` already is taken as it is.
      text_columns: columns of words, set to the left.
      class_: of the table.
      tall: whether a long table scrolls in a box of its own.
    """

    def cell(column: int, value: Any) -> Markup:
        if isinstance(value, Markup) and value.startswith("<td"):
            return value
        if not column:
            return element("th", value, scope="row")
        return element("td", value, class_="text" if column in text_columns else False)

    head = [
        element(
            "th", name, scope="col", class_="text" if i in (0, *text_columns) else ""
        )
        for i, name in enumerate(headers)
    ]
    body = [
        element("tr", *(cell(i, value) for i, value in enumerate(row))) for row in rows
    ]
    content = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_=class_ or False,
    )
    return element(
        "div",
        content,
        class_="scroll tall" if tall else "scroll",
        role="region",
        aria_label=caption,
        tabindex=0,
    )


def data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def wav(waveform: np.ndarray) -> bytes:
    """A 16-bit mono WAV file of int16 samples at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(waveform.astype("<i2").tobytes())
    return buffer.getvalue()


def sound(waveform: np.ndarray, picture: bytes, name: str, caption: Any) -> Markup:
    """A note to see and to hear.

    Args:
      waveform: int16 [samples].
      picture: its log-mel, PNG.
      name: what it is called in the texts for who does not see it.
      caption: what stands below it.
    """
    image = Markup(
        f'<img class="sound" alt="{html.escape(f"log-mel spectrogram of {name}")}" '
        f'src="{data_uri(picture, "image/png")}">'
    )
    player = element(
        "audio",
        controls=True,
        preload="metadata",
        src=data_uri(wav(waveform), "audio/wav"),
        aria_label=f"play {name}",
    )
    return element("figure", image, player, element("figcaption", caption))


def page(title: str, *content: Any) -> str:
    """A whole page."""
    template = importlib.resources.files("mic_tf.evaluation").joinpath("page.html")
    return string.Template(template.read_text("utf-8")).substitute(
        title=html.escape(title), body=joined(content)
    )
