import io
import warnings

import numpy as np
from matplotlib import font_manager, image
from matplotlib.ft2font import FT2Font

from mic_tf.evaluation import pictures

COUNTS = np.array([[9, 1], [0, 8]])


def drawn(*labels: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = pictures.confusion_png(COUNTS, labels, "title")
    return image.imread(io.BytesIO(png))


def test_names_are_shown_as_they_are():
    """Two dollar signs would be a formula of the letters between them."""
    formula, plain = drawn("$a$b", "reed"), drawn("ab", "reed")
    assert formula.shape == plain.shape
    assert not np.array_equal(formula, plain)
    assert drawn("a$b", "reed$").shape == plain.shape


def test_a_name_that_no_font_has_is_said_in_one_line(caplog):
    unassigned = "\U000e1000"
    drawn("reed", f"{unassigned}b")
    [record] = caplog.records
    assert f"no font here has {unassigned};" in record.getMessage()


def test_a_font_that_is_gone_is_passed_over(caplog, monkeypatch):
    gone = font_manager.FontEntry(fname="/gone.ttf", name="Gone")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [gone])
    drawn("reed", "\U000e1000b")
    [record] = caplog.records
    assert "no font here has" in record.getMessage()


def test_another_installed_font_helps_out(caplog):
    usual = font_manager.findfont(font_manager.FontProperties())
    known = set(FT2Font(usual).get_charmap())
    others = {
        character
        for font in font_manager.fontManager.ttflist
        for character in FT2Font(font.fname).get_charmap()
        if character > 0xFF
    }
    character = chr(min(others - known))
    drawn("reed", character)
    assert not caplog.records
