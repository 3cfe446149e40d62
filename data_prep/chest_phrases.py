"""The phrase tables behind regen.data_prep.chest_labeler: how a radiologist names the observations, denies, doubts and grades them.

Every pattern is matched against a sentence in lower case with single spaces (`folded` in the labeler). All gaps are bounded, so that a
match costs constant time. The phrases are this project's own, from general radiological usage.
"""

from __future__ import annotations

import re

_HEART = r"(?:heart|cardiac|cardiopericardial)(?: size| silhouette| shadow| contours?)?"
_MIDDLE = r"(?:mediastin(?:um|al)|cardiomediastin(?:um|al)|cardio-mediastinal)(?: and hilar)?(?: silhouettes?| contours?| width| shadow)?"
_LINK = (
    r"(?:(?:is|are|was|were|be|being|as|has|have|been|not|remains?|appears?|seems?|to|at|may|might|could|again|still|now|also|stably|stable"
    r"|unchanged|and|the|within|borderline|likely|probably|possibly|overall|mildly|moderately|severely|markedly|slightly|minimally|massively"
    r"|grossly|top|somewhat|mild|moderate|severe),? ){0,5}"
)
_NORMAL = r"(?:normal|unremarkable|(?:the )?upper limits? of normal|top[- ]normal)"
_BOTH = (
    r"(?:the )?(?:heart|cardiac)(?: size| silhouette)?(?:,| and|, and)? (?:the )?(?:cardio)?mediastin(?:um|al),?(?: and hilar)?"
    rf"(?: contours?| silhouettes?| structures)? {_LINK}{_NORMAL}"
    r"|normal heart(?: size)? and (?:cardio)?mediastin(?:um|al (?:contours?|silhouette))"
)
_MARKINGS = r"(?:interstitial|reticular|bronchovascular|lung) markings"
_OF = r"(?: of)?(?: the)? "

FINDINGS: dict[str, str] = {
    "Enlarged Cardiomediastinum": (
        rf"(?:widen(?:ed|ing)|enlarge(?:d|ment)|prominen(?:t|ce)){_OF}(?:superior |upper )?{_MIDDLE}|{_MIDDLE} {_LINK}"
        r"(?:widen(?:ed|ing)|enlarge(?:d|ment)|prominent|broad(?:ened)?)|mediastinal (?:mass|ha?ematoma)|cardiomediastinal enlargement"
    ),
    "Cardiomegaly": (
        rf"cardiomegaly|cardiac enlargement|(?:enlarge(?:d|ment)|prominen(?:t|ce)){_OF}{_HEART}"
        rf"|(?:the )?{_HEART} {_LINK}(?:enlarged|large|increased|prominent|dilated)|large heart|increased (?:heart size|cardiothoracic ratio)"
    ),
    "Lung Opacity": (
        r"opaci(?:ty|ties|fications?|fied)|infiltrat(?:es?|ions?|ive)|air ?-?space (?:disease|process(?:es)?|abnormalit(?:y|ies)|shadowing)|hazy"
        r"|haziness"
        r"|(?:increased|patchy|focal|vague|ill-defined|ill defined|hazy) densit(?:y|ies)"
        rf"|(?:increased|prominent|coarse(?:ned)?|accentuated|thickened) {_MARKINGS}|{_MARKINGS} {_LINK}(?:increased|prominent|coarse(?:ned)?)"
        r"|interstitial (?:lung disease|thickening|abnormality|prominence|pattern|process|disease)|reticula(?:r|tion)s?(?: pattern| changes?)?"
        r"|reticulonodular pattern|ground[- ]glass|(?:(?:lung|pulmonary|parenchymal|linear|apical) )?scar(?:s|ring)?|peribronchial (?:cuffing"
        r"|thickening)"
    ),
    "Lung Lesion": (
        r"nodul(?:es?|ar (?:opacit(?:y|ies)|densit(?:y|ies)|lesions?))|mass(?:es)?|granulomas?|(?:lung|pulmonary|cavit(?:y|ary)|cavitating) lesions?"
        r"|tumou?rs?|neoplasms?|metasta(?:sis|ses|tic disease)|malignancy|carcinoma"
    ),
    "Edema": (
        r"(?:pulmonary |interstitial |alveolar ){0,3}o?edema|(?:pulmonary |vascular |venous |pulmonary vascular |pulmonary venous "
        r"|central ){0,2}congestion"
        r"|(?:vascular|pulmonary vascular) (?:engorgement|redistribution)|cephali[sz]ation|kerley(?: b)? lines|(?:fluid|volume) overload"
        r"|(?:congestive )?heart failure|congestive failure|cardiac decompensation|chf"
    ),
    "Consolidation": r"consolidat(?:ions?|ive(?: opacit(?:y|ies)| process(?:es)?| changes?)?|ed)",
    "Pneumonia": r"(?:broncho|aspiration )?pneumonias?|infect(?:ions?|ious(?: process(?:es)?| infiltrates?| etiology)?)|pneumonitis|pneumonic",
    "Atelectasis": (
        r"atelect(?:asis|ases|atic(?: changes?)?)|volume loss|(?:lobar|lobe|lung|segmental) collapse|collapse of the (?:\w+ ){0,3}(?:lobe|lung)"
        r"|collapsed (?:\w+ ){0,2}(?:lobe|lung)"
    ),
    "Pneumothorax": r"(?:hydro|ha?emo)?pneumothora(?:x|ces)|ptx",
    "Pleural Effusion": (
        r"(?:pleural |parapneumonic )?effusions?|pleural (?:and|or|nor) pericardial effusions?|pleural fluid"
        r"|fluid in the (?:\w+ ){0,3}pleural space|ha?emothorax|hydrothorax|hydropneumothora(?:x|ces)"
        r"|empyema|chylothorax"
    ),
    "Pleural Other": (
        r"(?:pleural|pleuroparenchymal|pleural[- ]parenchymal|biapical pleural)(?: \w+){0,1}? (?:thickening|plaques?|scarring|calcifications?"
        r"|mass(?:es)?|nodules?)"
        r"|thickening of the (?:\w+ ){0,2}pleura|fibrothorax|calcified pleura|(?:apical|pleural) caps?"
    ),
    "Fracture": r"fractur(?:es?|ed)|compression deformit(?:y|ies)|broken ribs?",
    "Support Devices": (
        r"(?:endotracheal|tracheostomy|nasogastric|orogastric|enteric|feeding|et|ng|og|chest|thoracostomy|gastric|nasoenteric"
        r"|dobb?hoff)(?: feeding)? tubes?"
        r"|ett|dobb?hoff|tracheostomy|(?:\w+ )?(?:catheters?|cannulae?|cannulas?)|pigtail|swan[- ]ganz(?: catheter)?|picc(?: lines?)?"
        r"|(?:central(?: venous)?|venous|subclavian|jugular|ij|arterial|dialysis|femoral)(?: \w+)? lines?|(?:support|monitoring) (?:lines|devices"
        r"|tubes)"
        r"|lines (?:and|or) tubes|tubes (?:and|or) lines|port[- ]?a[- ]?cath|(?:chest|infusion) ports?|mediport|pacemakers?|pacer(?: wires?)?"
        r"|(?:pacer|pacemaker|pacing|icd|aicd|ventricular|defibrillator) (?:leads?|wires?)|a?icd|(?:cardioverter[- ])?defibrillators?"
        r"|(?:sternotomy|sternal|cerclage) wires?|(?:prosthetic|artificial|mechanical) (?:\w+ )?valves?|(?:balloon|assist) (?:pumps?|devices?)"
        r"|iabp|lvad|impella"
        r"|(?:surgical|pleural|mediastinal) drains?|(?:bronchial|oesophageal|esophageal|tracheal) stents?"
    ),
}
"""Observation -> what names it. A phrase may hold its own cue ('heart is not enlarged'): cues inside it count as before it."""

NORMALS: dict[str, str] = {
    "Cardiomegaly": rf"{_BOTH}|(?:the )?{_HEART} {_LINK}{_NORMAL}|normal(?:[- ]sized)? {_HEART}",
    "Enlarged Cardiomediastinum": rf"{_BOTH}|(?:the )?{_MIDDLE} {_LINK}{_NORMAL}|normal {_MIDDLE}",
    "Pleural Effusion": r"costophrenic (?:angles?|sulci|sulcus|recess(?:es)?) (?:(?:is|are|remains?|appears?) )?(?:sharp|clear|preserved)",
}
"""Observation -> a statement of normality that denies it. 'Lungs are clear' denies nothing in CheXpert: it only leaves room for 'No Finding'."""

HINTS: dict[str, str] = {
    "Pleural Effusion": r"blunt(?:ed|ing)(?: of)?(?: the)?(?: \w+){0,2} costophrenic (?:angles?|sulci|sulcus)|costophrenic (?:angles?"
    r"|sulcus) blunting"
    r"|costophrenic (?:angles?|sulcus|sulci) (?:is|are) (?:\w+ )?blunted"
}
"""Observation -> a sign that only suggests it: uncertain unless denied."""

NOT_MEANT = (
    r"pericardial effusions?|joint effusions?|mass[- ]effect|(?:soft[- ]tissue|subcutaneous|peripheral|laryngeal) o?edema|body mass|(?:left"
    r"|right) ventricular mass"
    r"|ventricular hypertrophy|breast (?:mass|density|densities)|normal (?:lung|interstitial|bronchovascular) markings|(?:stomach|bowel) (?:mass"
    r"|infiltrate)"
    r"|hiatal hernia|air-?fluid levels?|pneumonia (?:vaccine|vaccination)|(?:contrast|barium|radio) opacification|infectious disease"
)
"""Words that look like an observation and are none."""

_ADVERB = (
    r"(?:(?:now|been|since|also|completely|entirely|fully|essentially|clearly|definitely|well|currently|convincingly|readily|interval(?:ly)?) ){0,3}"
)
_VERB = r"(?:(?:is|are|was|were|has|have|been|being|remains?|would|be) ){0,3}"
_ELSEWHERE = r" (?:on|in) (?:the )?(?:lateral|frontal|prior|previous|earlier)"
_AMOUNT = r"(?: (?:significant|appreciable|substantial|definite|interval|relevant|other|acute|major|new)){0,3}"

CUES: dict[str, str] = {
    "skip": (
        rf"(?:no|without|not){_AMOUNT} (?:changes?|changed|increase[sd]?|decrease[sd]?|worsening|improvement|progression|larger|smaller|improved)"
        r"(?: (?:in|of|from))?|not only"
        rf"|not (?:clearly |well |definitely )?(?:seen|present|visible|evident|identified){_ELSEWHERE}"
        rf"|not (?:yet )?resolved|(?:partial|incomplete|near[- ]complete) (?:interval )?resolution(?: of)?"
    ),
    "history": r"(?:history|hx|h/o)(?: of)?|status post|s/p",
    "doubt_after": (
        rf"{_VERB}(?:cannot|can not|can't|could not|not) (?:be )?(?:entirely |completely |definitely |reliably )?(?:excluded|ruled out)"
        r"|(?:difficult|hard|impossible) to (?:entirely |completely )?(?:exclude|rule out)|(?:may|might|could"
        r"|can) (?:also )?be (?:\w+ )?(?:present|considered)"
        r"|(?:is|are|remains?) (?:also |therefore |still )?(?:possible|probable|likely|questionable|questioned|suspected|equivocal"
        r"|favou?red(?: over)?)"
        r"|(?:is|are|remains?) (?:a |the |in the )?(?:consideration|possibility|concern|differential)|should be considered|(?:less |un)likely"
    ),
    "doubt": (
        r"may|might|could|possibl[ey]|possibility|probabl[ey]|(?:most |more )?likely|suspicious for|suspicion (?:of|for)|suspect(?:ed)?"
        r"|concern(?:ing)?(?: for| of)?|worrisome(?: for)?|suggest(?:s|ed|ing|ive)?(?: of)?|question(?:able|s|ed|ing)?(?: of)?|equivocal|borderline"
        r"|presum(?:ed|ably)|unclear|uncertain|perhaps"
        r"|potential(?:ly)?|(?:can ?not|can't|could not|to|not) (?:\w+ly )?(?:exclude|rule out)|rule out|r/o"
        r"|(?:evaluate|assess) for|versus|vs\.?|differential|favou?r(?:ed|s|ing)?(?: over)?|consider(?:ed|ation)?|rather than|either"
    ),
    "deny_after": (
        rf"{_VERB}(?:not|no longer) {_ADVERB}(?:seen|identified|present|evident|visible|visuali[sz]ed|appreciated|detected|demonstrated|apparent"
        rf"|noted"
        rf"|found|shown|in place)(?!{_ELSEWHERE})|{_VERB}{_ADVERB}(?:resolved|cleared|disappeared|absent|ruled out"
        rf"|excluded|removed|withdrawn|discontinued)"
    ),
    "deny": (
        r"no|not|without|w/o|negative for|(?:free|clear|devoid) of|absence of|lack(?:s|ing)?(?: of)?|neither|nor"
        r"|(?:(?:complete|interval|full) ){0,2}(?:resolution|clearance|clearing|removal) of"
    ),
    "end": (
        r"but|however|except(?: for)?|although|though|yet|aside from|apart from|other than|besides|which|whereas|while|because|(?:secondary|due"
        r"|owing) to"
        r"|(?<!consistent )(?<!compatible )(?<!compared )with|there (?:is|are|has|have|was|were)|and(?= (?:the|there) )"
        r"|and(?= (?:heart|cardiac|lungs?|mediastin\w+) (?:\w+ )?(?:is|are|remains?|appears?) )"
    ),
    "stated": (
        r"(?:is|are|was|were) (?:again |also |now |still |once again )?(?:seen|present|noted|identified|visible|evident|visuali[sz]ed"
        r"|demonstrated|appreciated"
        r"|unchanged|stable|redemonstrated|increased|decreased|larger|smaller)|remains?|persists?|(?:has|have) developed|in (?:place|situ)"
        r"|terminates?|ends?"
    ),
    "or": r"(?:and/)?or",
}  # fmt: skip
"""Kind -> cue words. Of those that begin at the same character the kind listed first wins ('no change in' is no denial)."""
_NEXT = r"stable|unchanged|mild|mildly|minimal|trace|small|tiny|moderate|moderately|large|severe|marked"
MARKS: dict[str, str] = {
    "mark": r"[;:]",
    "query": r"\?(?= ?\w)",
    "pause": rf", (?=(?:with|an?|the|there|now|new|{_NEXT}|left|right|bilateral|bibasilar|heart|lungs?) )|, and (?=(?:an?|{_NEXT}) )",
}
"""Kind -> punctuation. A pause ends a scope only where no 'or' follows in its clause ('no edema, large effusion, or ...' is one list)."""

FRESH = re.compile(r",(?: and| which| these| this)? ?$")
"""Before a word of doubt that opens a new thought, and so is not denied by the 'no' before it."""
BOTH_WAYS = re.compile(r"versus|vs|.* over$|rather than")
"""Doubt that reaches the observation before it too."""
PLURAL = re.compile(r"(?:are|were|have) ")
LIST_GAP = re.compile(r"(?:,? ?(?:and/or|and|or|nor|versus|vs\.?)|[,/])(?: [\w-]+){0,3} ?")
"""What may stand between two members of one list."""
JOINED = re.compile(r" ?(?:and/or|or|nor|versus|vs\.?|/)(?: |$)")
AND = re.compile(r",? and ")

_SIDES = r"left(?:-sided)?|right(?:-sided)?|lt|rt|lingular?|bilateral(?:ly)?|both|bibasilar|bibasal|biapical"
_PART = r"(?: \w+)? (?:lobes?|lungs?|bases?|apex|apices|zones?|hemithorax|hemithoraces)"
_BY_OTHER = rf"(?: (?:and|greater than|more than) (?:the )?(?:left|right)\b|(?: \w+){{0,2}} and (?:the )?(?:left|right)(?={_PART}\b))?"
SIDE = re.compile(rf"\b(?:{_SIDES})\b")
SIDES_JOINED = re.compile(r" (?:and|or|greater than|more than|and/or)(?: [\w-]+){0,2} |[/-]|(?: \w+){0,3} and (?:the )?")
"""What stands between 'left' and 'right' where both are meant."""
SIDE_AFTER = re.compile(
    r"(?: (?!and |or |with |is |are )[\w-]+){0,2}? (?:on|in|at|of|within|involving|overlying|over|along|throughout|near) "
    rf"(?:(?!and |with )[\w-]+ ){{0,3}}?(?:{_SIDES})\b{_BY_OTHER}|,? (?:(?:is|are|seen|present) ){{0,2}}(?:bilaterally\b|(?:left"
    rf"|right) greater than (?:left|right)\b)"
)
"""A side named behind its observation: 'opacity in the right lower lobe', 'effusions, left greater than right'."""
LEFT_WORDS, RIGHT_WORDS = frozenset({"left", "left-sided", "lt", "lingula", "lingular"}), frozenset({"right", "right-sided", "rt"})

NUMBER = r"\d+(?:[.,]\d+)?"
LENGTHS = {"mm": r"mm|millimet(?:er|re)s?", "cm": r"cm|centimet(?:er|re)s?"}
"""Unit -> how it is written."""

GRADES: dict[str, str] = {
    "mild": r"mild(?:ly)?|small|minimal(?:ly)?|tiny|trace|minor|slight(?:ly)?|subtle|faint|minute",
    "moderate": r"moderate(?:ly)?|moderate-sized|medium-sized",
    "severe": r"severe(?:ly)?|large|marked(?:ly)?|massive(?:ly)?|extensive|huge|substantial|gross(?:ly)?",
}
GRADE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in GRADES.items()))
GRADE_AFTER = re.compile(
    rf" (?:is|are|remains?|appears?)(?: again| now| still| stable| at least)? (?:{'|'.join(GRADES.values())})\b(?! (?:change|increase|decrease"
    rf"|improve|worse|larger|smaller|bigger|more|less|prominent))"
)
GRADE_BREAK = re.compile(r"[,;:]|\b(?:and|or|with|is|are|has|have)\b")
