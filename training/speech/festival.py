"""Speech from festival: people of many languages, as diphones, selected units or HTS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.speech.utterance import (
    Delivery,
    PhoneSet,
    SpeechEngineError,
    Utterance,
    Voice,
    phones_until,
    read_wav,
    run_program,
    scale_time,
)


@dataclass(frozen=True, slots=True)
class FestivalVoice:
    """What festival needs to know of a voice.

    Attributes:
        encoding: of the text that it reads.
        package: Debian's package with the voice.
        folder: the voice's own below festival's `voices`.
    """

    language: str
    phone_set: PhoneSet
    encoding: str
    package: str
    folder: str


def _voice(
    language: str, phone_set: PhoneSet, package: str, folder: str, encoding: str = "utf-8"
) -> FestivalVoice:
    return FestivalVoice(language, phone_set, encoding, f"festvox-{package}", folder)


FESTIVAL_VOICES: Final[dict[str, FestivalVoice]] = {
    "cmu_us_slt_arctic_hts": _voice("en", "arpabet", "us-slt-hts", "us"),
    "ked_diphone": _voice("en", "arpabet", "kdlpc16k", "english"),
    "suo_fi_lj_diphone": _voice("fi", "finnish", "suopuhe-lj", "finnish", "latin-1"),
    "hy_fi_mv_diphone": _voice("fi", "finnish", "suopuhe-mv", "finnish", "latin-1"),
    "msu_ru_nsh_clunits": _voice("ru", "russian", "ru", "russian"),
    "czech_dita": _voice("cs", "czech", "czech-dita", "czech", "iso8859-2"),
    "czech_krb": _voice("cs", "czech", "czech-krb", "czech", "iso8859-2"),
    "czech_machac": _voice("cs", "czech", "czech-machac", "czech", "iso8859-2"),
    "czech_ph": _voice("cs", "czech", "czech-ph", "czech", "iso8859-2"),
    "upc_ca_ona_hts": _voice("ca", "catalan", "ca-ona-hts", "catalan", "iso8859-15"),
    "hindi_NSK_diphone": _voice("hi", "indic", "hi-nsk", "hindi"),
    "marathi_NSK_diphone": _voice("mr", "indic", "mr-nsk", "marathi"),
    "telugu_NSK_diphone": _voice("te", "indic", "te-nsk", "telugu"),
    "lp_diphone": _voice("it", "italian", "italp16k", "italian", "latin-1"),
    "pc_diphone": _voice("it", "italian", "itapc16k", "italian", "latin-1"),
}
_VOICES_FOLDER: Final = Path("/usr/share/festival/voices")
_PAUSES: Final = ("pau", "h#", "#", "##", "_")


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    if shutil.which("festival") is None:
        return "package festival"
    known = FESTIVAL_VOICES[voice.name]
    if (_VOICES_FOLDER / known.folder / voice.name).is_dir():
        return None
    return f"package {known.package}"


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in a festival voice, in one run of the program, which is slow to start.

    Raises:
        SpeechEngineError: festival is absent or failed.
    """
    known = FESTIVAL_VOICES[voice.name]
    stretch = delivery.vocal_tract / delivery.rate
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"]
        for index, text in enumerate(texts):
            plain = text.replace("\\", "").replace('"', "")
            lines += [
                f'(set! u (utt.synth (Utterance Text "{plain}")))',
                f'(utt.save.wave u "{folder}/{index}.wav" \'riff)',
                f'(utt.save.segs u "{folder}/{index}.seg")',
            ]
        script = Path(folder) / "speak.scm"
        script.write_text("\n".join(lines) + "\n", encoding=known.encoding)
        run_program(["festival", "-b", str(script)])
        return [
            _read(Path(folder) / str(index), voice, delivery.vocal_tract)
            for index in range(len(texts))
        ]


def _read(stem: Path, voice: Voice, vocal_tract: float) -> Utterance:
    try:
        samples, rate_hz = read_wav(stem.with_suffix(".wav"))
        segments = stem.with_suffix(".seg").read_text(encoding="latin-1")
    except (OSError, EOFError) as error:
        raise SpeechEngineError(f"festival voice {voice.name!r} gave no sound: {error}") from error
    ends = []
    for line in segments.split("#", 1)[1].splitlines():
        fields = line.split()
        if len(fields) == 3:
            ends.append(("" if fields[2] in _PAUSES else fields[2], float(fields[0])))
    spoken = Utterance(samples, phones_until(ends), FESTIVAL_VOICES[voice.name].phone_set)
    return scale_time(spoken, rate_hz, vocal_tract)
