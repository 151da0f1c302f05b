r"""Writes notes of FreePats' patches as files, for `sample_folder`.

Usage (Debian's `timidity` and `freepats`):
  python tools/write_freepats_notes.py --out=freepats/train
  python -m mic_tf.prepare --dataset=sample_folder/freepats --source=freepats

Every General MIDI program that has a patch of its own plays up to 26 pitches over its
range at two velocities, held for 3 s, without reverb and chorus: 4 s each, 16 kHz, as
FAMILY/freepatsNNN/PITCH-VELOCITY.wav. Notes that are as good as silent are left out.
"""

import concurrent.futures
import functools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE
from tools import training_notes

if TYPE_CHECKING:
    import numpy as np

PITCHES = 26
VELOCITIES = (75, 110)

_TICKS_PER_SECOND = 960
_HELD, _AFTER = 3 * _TICKS_PER_SECOND, 1 * _TICKS_PER_SECOND

_QUIETEST = 0.01
"""Peak below which a note is left out."""


class Note(NamedTuple):
    """One note: its family, General MIDI program from 0, MIDI pitch and velocity."""

    family: str
    program: int
    pitch: int
    velocity: int


def define_flags() -> None:
    flags.DEFINE_string("out", "", "Folder for the files.")
    flags.DEFINE_string(
        "config", "/etc/timidity/freepats.cfg", "TiMidity's configuration of patches."
    )


def main(arguments: list[str]) -> None:
    """Writes the files and prints how many."""
    flag = flags.FLAGS
    if arguments or not flag.out:
        raise UserError("--out: missing; give the folder for the files, and flags only")
    try:
        config = pathlib.Path(flag.config).read_text(errors="replace")
    except OSError as error:
        raise UserError(
            f"--config={flag.config}: {error.strerror}; Debian's package freepats has "
            "it"
        ) from error
    wanted = list(notes(patches(config)))
    if not wanted:
        raise UserError(
            f"--config={flag.config}: no patch of a melodic program in it, as `0 "
            "Tone_000/000_Acoustic_Grand_Piano.pat`; FreePats' own freepats.cfg "
            "expected"
        )
    import tqdm

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(functools.partial(_write, flag.config, flag.out), wanted)
        heard = list(tqdm.tqdm(done, total=len(wanted), unit="note"))
    written = [note for note, is_heard in zip(wanted, heard, strict=True) if is_heard]
    if not written:
        raise UserError(f"--config={flag.config}: TiMidity plays nothing but silence")
    print(f"{len(written)} notes of {len({n.program for n in written})} programs")


def patches(config: str) -> set[int]:
    """The programs of bank 0 that have a patch, by a configuration of TiMidity."""
    return {
        int(number)
        for number in re.findall(r"^\s*(\d+)\s+Tone_000/", config, re.MULTILINE)
    }


def notes(available: set[int]) -> Iterator[Note]:
    """What the programs play that there are."""
    import numpy as np

    from mic_tf.datasets.soundfont_notes.general_midi import PROGRAMS

    for program in PROGRAMS:
        if program.number not in available:
            continue
        pitches = np.linspace(program.low, program.high, PITCHES).round().astype(int)
        for pitch in np.unique(pitches):
            for velocity in VELOCITIES:
                yield Note(program.family, program.number, int(pitch), velocity)


def _write(config: str, out: str, note: Note) -> bool:
    """A note as a file, if it can be heard."""
    import numpy as np

    sound = played(note, config)
    if np.abs(sound).max(initial=0.0) < _QUIETEST:
        return False
    folder = pathlib.Path(out, note.family, f"freepats{note.program:03d}")
    name = f"{note.pitch:03d}-{note.velocity:03d}.wav"
    training_notes.write_sound(out, folder / name, sound)
    return True


def played(note: Note, config: str) -> "np.ndarray":
    """A note as TiMidity plays it, float32 [samples] at 16 kHz.

    Raises:
      UserError: TiMidity is not there, or failed.
    """
    import mido
    import soundfile

    changes = [
        mido.Message("program_change", program=note.program),
        mido.Message("note_on", note=note.pitch, velocity=note.velocity),
        mido.Message("note_off", note=note.pitch, time=_HELD),
        mido.MetaMessage("end_of_track", time=_AFTER),
    ]
    # 120 beats a minute where a file does not say it.
    file = mido.MidiFile(ticks_per_beat=_TICKS_PER_SECOND // 2)
    file.tracks.append(mido.MidiTrack(changes))
    with tempfile.TemporaryDirectory() as folder:
        path, wav = os.path.join(folder, "note.mid"), os.path.join(folder, "note.wav")
        file.save(path)
        asked = [
            "timidity",
            "-c",
            config,
            "-Ow",
            "--output-mono",
            "-s",
            str(SAMPLE_RATE),
        ]
        asked += ["-EFreverb=0", "-EFchorus=0", "-o", wav, path]
        try:
            subprocess.run(asked, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise UserError(
                "timidity: not installed; Debian's package has it"
            ) from error
        except subprocess.CalledProcessError as error:
            said = (error.stdout + error.stderr).strip().splitlines()
            raise UserError(f"timidity: {said[-1] if said else 'failed'}") from error
        sound, _ = soundfile.read(wav, dtype="float32")
    return sound[:NOTE_SAMPLES]


if __name__ == "__main__":
    define_flags()
    command.run(main)
