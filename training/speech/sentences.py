"""Sentences of our own in eleven languages, from word lists, without end.

A sentence takes one entry of every column of its language. Babble strings
syllables together instead, so that rare sounds and clusters are heard too.
Whether a sentence is held out depends on its text alone.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

HELD_OUT_ONE_IN: Final = 12

# Columns are separated by "/", entries by "|".
_GRAMMAR: Final[dict[str, str]] = {
    "en": """my mother|the old baker|our new neighbour|a young farmer|the brown puppy|somebody|
the whole family|every visitor|my best friend|the bus driver|Barbara|Peter|William|the judge|
your uncle|a famous poet|the shop assistant|nobody
/
brought|bought|will probably move|could have found|always wanted|never saw|put|painted|
threw away|is looking for|remembers|has just opened|would love|should measure|carried|described
/
five big apples|a bowl of warm soup|the wooden bridge|three blue bottles|a pile of paper|
the yellow umbrella|some fresh bread and butter|a very thin wire|the broken window|
those heavy boots|an empty cupboard|both of the maps|a cup of coffee|the photograph|
a pair of gloves|more milk than usual|the last chapter
/
before breakfast|in the middle of February|for a few moments|behind the church|
without asking anybody|because of the weather|near the village pub|on Wednesday evening|
above the old harbour|from the top shelf|with both hands|while the music played|
as far as we know|after the show|just beyond the river|if I am not wrong""",
    "de": """meine Mutter|der alte Bäcker|unsere neue Nachbarin|ein junger Bauer|jemand|niemand|
die ganze Familie|mein bester Freund|der Busfahrer|Frau Müller|das kleine Mädchen|Thomas|
der Bürgermeister
/
brachte|kaufte|möchte|findet|malte|sucht|öffnete|beschreibt|vergaß|braucht|hörte|schiebt
/
fünf große Äpfel|eine Schüssel warme Suppe|die hölzerne Brücke|drei blaue Flaschen|
viel Papier|den gelben Regenschirm|frisches Brot mit Butter|das kaputte Fenster|
schwere Stiefel|ein paar Handschuhe|die letzten Bücher|ein schönes Bild
/
vor dem Frühstück|Mitte Februar|für ein paar Minuten|hinter der Kirche|ohne zu fragen|
wegen des Wetters|am Mittwochabend|über dem Hafen|mit beiden Händen|während der Musik|
auf dem Bahnhof|jenseits des Flusses""",
    "es": """mi madre|el viejo panadero|nuestra vecina|un joven pescador|alguien|nadie|
toda la familia|mi mejor amigo|el conductor del autobús|Beatriz|la niña pequeña|Felipe|
el famoso poeta
/
compró|busca|quiere mover|encontró|siempre pinta|abrió|describe|olvidó|necesita|escuchó|empuja
/
cinco manzanas grandes|un plato de sopa|el puente de madera|tres botellas azules|mucho papel|
el paraguas amarillo|pan fresco con mantequilla|la ventana rota|unas botas pesadas|
un vaso de leche|los últimos libros|una fotografía
/
antes del desayuno|a mediados de febrero|por un momento|detrás de la iglesia|sin preguntar|
por culpa de la lluvia|el miércoles por la noche|encima del puerto|con ambas manos|
mientras sonaba la música|más allá del río""",
    "fr": """ma mère|le vieux boulanger|notre nouvelle voisine|un jeune fermier|quelqu'un|
toute la famille|mon meilleur ami|le chauffeur du bus|Béatrice|la petite fille|Philippe|
le fameux poète
/
achète|cherche|veut trouver|a toujours voulu|ouvre|décrit|oublie|pousse|a peint|apporte|jette
/
cinq belles pommes|un bol de soupe chaude|le pont de bois|trois bouteilles bleues|
beaucoup de papier|le parapluie jaune|du pain frais et du beurre|la fenêtre cassée|
de lourdes bottes|un peu de lait|les derniers livres|une photographie
/
avant le petit déjeuner|au mois de février|pour un moment|derrière l'église|sans demander|
à cause de la pluie|mercredi soir|au-dessus du port|avec les deux mains|
pendant la musique|au bout de la rue|au bord du fleuve""",
    "pt": """minha mãe|o velho padeiro|a nossa vizinha|um jovem pescador|alguém|ninguém|
toda a família|meu melhor amigo|o motorista do ônibus|a menina|Felipe|o famoso poeta
/
comprou|procura|quer mover|encontrou|sempre pinta|abriu|descreve|esqueceu|precisa ver|empurra
/
cinco maçãs grandes|um prato de sopa|a ponte de madeira|três garrafas azuis|muito papel|
o chapéu amarelo|pão fresco com manteiga|a janela quebrada|botas pesadas|um copo de leite|
os últimos livros|uma fotografia
/
antes do café da manhã|em fevereiro|por um momento|atrás da igreja|sem perguntar|
por causa da chuva|na quarta-feira|em cima do porto|com as duas mãos|
enquanto a música tocava|além do rio""",
    "pl": """moja mama|stary piekarz|nasza nowa sąsiadka|młody rolnik|ktoś|cała rodzina|
mój najlepszy przyjaciel|kierowca autobusu|pani Barbara|mała dziewczynka|Paweł
/
kupił|szuka|chce znaleźć|zawsze maluje|otwiera|opisuje|zapomina|popycha|przynosi|wyrzuca
/
pięć dużych jabłek|miskę ciepłej zupy|drewniany most|trzy niebieskie butelki|dużo papieru|
żółty parasol|świeży chleb z masłem|wybite okno|ciężkie buty|trochę mleka|ostatnie książki
/
przed śniadaniem|w połowie lutego|przez chwilę|za kościołem|bez pytania|z powodu deszczu|
w środę wieczorem|nad portem|obiema rękami|podczas muzyki|po drugiej stronie rzeki""",
    "nl": """mijn moeder|de oude bakker|onze nieuwe buurvrouw|een jonge boer|iemand|
het hele gezin|mijn beste vriend|de buschauffeur|mevrouw Bakker|het kleine meisje|Willem
/
kocht|zoekt|wil vinden|schildert altijd|opent|beschrijft|vergeet|duwt|brengt|gooit
/
vijf grote appels|een kom warme soep|de houten brug|drie blauwe flessen|veel papier|
de gele paraplu|vers brood met boter|het kapotte raam|zware schoenen|een beetje melk
/
voor het ontbijt|midden in februari|voor een ogenblik|achter de kerk|zonder te vragen|
door het slechte weer|op woensdagavond|boven de haven|met beide handen|voorbij de rivier""",
    "sv": """min mamma|den gamla bagaren|vår nya granne|en ung bonde|någon|hela familjen|
min bästa vän|busschauffören|den lilla flickan|Viktor
/
köpte|söker|vill finna|målar alltid|öppnar|beskriver|glömmer|bär|hämtar|kastar
/
fem stora äpplen|en skål varm soppa|den gamla bron|tre blå flaskor|mycket papper|
det gula paraplyet|färskt bröd med smör|det trasiga fönstret|tunga stövlar|lite mjölk
/
före frukost|i mitten av februari|för ett ögonblick|bakom kyrkan|utan att fråga|
på grund av vädret|på onsdag kväll|ovanför hamnen|med båda händerna|bortom floden""",
    "id": """ibu saya|tukang roti tua|tetangga baru kami|petani muda|seseorang|semua keluarga|
sahabat saya|sopir bus|anak perempuan kecil|pak Wayan
/
membeli|mencari|ingin membawa|selalu melukis|membuka|memberi|melupakan|mendorong|membuang
/
lima apel besar|semangkuk sup hangat|jembatan kayu|tiga botol biru|banyak kertas|
payung kuning|roti dan mentega|jendela yang pecah|sepatu berat|sedikit susu
/
sebelum sarapan|pada bulan Februari|sebentar saja|di belakang rumah|tanpa bertanya|
karena hujan|pada hari Rabu|di atas pelabuhan|dengan dua tangan|di seberang sungai""",
    "it": """mia madre|il vecchio fornaio|la nostra vicina|un giovane pescatore|qualcuno|
tutta la famiglia|il mio migliore amico|l'autista dell'autobus|Beatrice|la bambina|Filippo
/
compra|cerca|vuole trovare|ha sempre voluto|apre|descrive|dimentica|spinge|dipinge|porta
/
cinque mele grandi|una ciotola di zuppa|il ponte di legno|tre bottiglie blu|molta carta|
l'ombrello giallo|pane fresco e burro|la finestra rotta|degli stivali pesanti|
un bicchiere di latte|gli ultimi libri|una fotografia
/
prima di colazione|a metà febbraio|per un momento|dietro la chiesa|senza domandare|
per colpa della pioggia|mercoledì sera|sopra il porto|con tutte e due le mani|
durante la musica|oltre il fiume""",
    "zh": """wo3men5|ta1 de5 ma1ma5|lao3 peng2you5|xiao3 wang2|na4 ge4 xue2sheng5|
wo3 ba4ba5|ge1ge5|ni3 de5 tong2xue2|yi1 ge4 yi1sheng1|mei3 ge4 ren2|lao3shi1|shu1shu5
/
ming2tian1|jin1tian1 wan3shang5|bu4 xiang3|hen3 xi3huan5|chang2chang2|ke3neng2 hui4|
yi3jing1|xia4wu3|zhun3bei4|mei3 tian1|fei1chang2 xiang3
/
mai3|kan4|zhao3|xie3|he1|xue2xi2|na2 zou3|wen4|fang4xia4|chi1|da3kai1|bang1 wo3 mai3
/
yi1 bei1 re4 cha2|liang3 ben3 shu1|zhong1wen2|wu3 ge4 ping2guo3|na4 feng1 xin4|
hao3chi1 de5 mian4bao1|yi1 zhang1 bai2 zhi3|xin1 de5 shou3ji1|hong2se4 de5 yi1fu5|
bo1li5 ping2|fei1ji1 piao4|hua1 he2 shu4|yi1 fu2 hua4|yu3san3""",
}
_ONSETS: Final = "p b m f v w t d n s z l r k g j h sp st br pl fr tr bl mp kr gl sl fl sm kw pr dr"
_NUCLEI: Final = "a e i o u a e i o u ai au oi eu"
_CODAS: Final = ("", "", "", "n", "m", "s", "l", "r", "p", "t", "b", "f", "st", "mp")
_PINYIN_ONSETS: Final = "b p m f d t n l g k h zh ch sh r z c s"
_PINYIN_RHYMES: Final = "a ai ao an ang e ou en u uo ui un"

LANGUAGES: Final = tuple(_GRAMMAR)


def sentence(language: str, rng: np.random.Generator) -> str:
    """One sentence of `language`.

    Raises:
        KeyError: a language without a grammar.
    """
    columns = _GRAMMAR[language].replace("\n", "").split("/")
    picked = [str(rng.choice(column.split("|"))) for column in columns]
    return " ".join(picked)


def babble(language: str, rng: np.random.Generator) -> str:
    """Four to nine words that do not exist but can be said in `language`."""
    words = []
    for _ in range(rng.integers(4, 10)):
        syllables = range(rng.integers(1, 4))
        if language == "zh":
            words.append("".join(_pinyin_syllable(rng) for _ in syllables))
        else:
            words.append("".join(_syllable(rng) for _ in syllables))
    return " ".join(words)


def is_held_out(text: str) -> bool:
    """Whether this text is kept from training, by a hash of it."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def _syllable(rng: np.random.Generator) -> str:
    onset, nucleus = rng.choice(_ONSETS.split()), rng.choice(_NUCLEI.split())
    return f"{onset}{nucleus}{rng.choice(_CODAS)}"


def _pinyin_syllable(rng: np.random.Generator) -> str:
    onset = str(rng.choice(_PINYIN_ONSETS.split()))
    rhyme = str(rng.choice(_PINYIN_RHYMES.split()))
    if onset in ("b", "p", "m", "f") and rhyme in ("e", "uo", "ui", "un", "ou"):
        rhyme = "o" if rhyme != "un" else "en"
    return f"{onset}{rhyme}{rng.integers(1, 5)}"
