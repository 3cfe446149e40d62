"""What the pages of X-rays and ECGs share to show the map of one sentence at a time: a style sheet, and a choice beside the sentence.

An <article> holds elements of class "heat mI", one for the map of sentence I, and the sentence itself as <li class="mapped sI">. A map is seen
while the pointer is on its sentence, and stays when the sentence is chosen. No script: the style sheet does all of it.
"""

from __future__ import annotations

SLOTS = 60
"""Sentences of a draft that can show a map."""
TINT = (255, 122, 0)
_COLOUR = f"#{TINT[0]:02x}{TINT[1]:02x}{TINT[2]:02x}"
MAP_STYLE = f"""
.heat{{opacity:0}}
.key{{display:inline-block;width:6rem;height:.7em;margin:0 .45em;border:1px solid var(--line);background:linear-gradient(90deg,#333,{_COLOUR})}}
.off,.see{{font-size:.8125rem;color:var(--link);cursor:pointer}}.see input,.off input{{margin:0 .35em 0 0}}
.draft li.mapped{{position:relative}}.see{{position:absolute;right:0;bottom:.5rem}}.mapped .why{{padding-right:7rem}}
.draft li.mapped:hover,.draft li.mapped:has(:checked){{box-shadow:-.6rem 0 0 -.35rem {_COLOUR}}}
@supports not selector(:has(*)){{.see,.off{{display:none}}}}
@media print{{.see,.off,.point{{display:none}}.mapped .why{{padding:0}}.draft li.mapped:has(:checked){{box-shadow:none}}}}
""" + "".join(
    f"article:has(.s{i}:hover) .m{i},article:has(.s{i} :checked) .m{i}{{opacity:1}}article:has(.s{i}:hover) .heat:not(.m{i}){{opacity:0}}\n"
    for i in range(SLOTS)
)


def choice(number: int, place: int, where: str) -> str:
    """Beside sentence `place` of case `number`: show its map and keep it. where: 'on the image'."""
    return f'<label class="see"><input type="radio" name="map-{number}" aria-label="Sentence {place + 1} {where}"/>{where}</label>'


def legend(number: int, more: str) -> str:
    """How to see the maps of a case and how to put them away. more: HTML."""
    return (
        '<p class="soft"><span class="point">Point at a sentence, or choose it, to see what moved it: weak <span class="key"></span> strong.</span> '
        f'{more}<br/><label class="off"><input type="radio" name="map-{number}" checked/>no map</label></p>'
    )
