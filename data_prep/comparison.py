"""The words by which a report compares with an earlier study: one vocabulary, three readers of it, and what a comparison says.

    ecg_compares("Unchanged since the prior tracing.")       True     what is cut from a retrieved ECG report, and from a draft without a prior
    chest_compares("The opacity is still seen.")             True     what a chest X-ray draft without a prior must not say
    speaks_of_change("No prior study for comparison.")       False    what counts as an error in a draft of either kind

They differ on purpose. The guard of chest X-ray drafts takes every word that may look back ('still', 'remains', 'interval'): that costs a
sentence. An error must be one, so the count takes such words only beside what they compare, and takes none that deny a comparison. ECG
reports come in three languages, and their 'stable' or 'increased voltage' compares nothing.
"""

from __future__ import annotations

import re

_ALL = (
    r"unchanged|no (?:significant |definite |relevant )?change|compared (?:to|with)|comparison|since (?:the )?(?:prior|previous|last)|since \d{4}"
    r"|previous(?:ly)?|prior (?:ecg|tracing|study)|(?:has|have) (?:worsened|improved|resolved|progressed)|now (?:seen|present|shows?)"
    r"|no longer|new(?:ly)?\b|worsen\w*|persist\w*|again (?:seen|noted)|interval (?:change|development)"
)
"""Read by all three."""
_ECG = (
    r"as before|than before|evolving"
    r"|neu(?:er?|es)? aufgetreten\w*|weiterhin|seit (?:der )?(?:letzten|vor)|unverändert|im vergleich|gegenüber (?:dem )?vor|vorbefund"
    r"|vor-ekg|zum vor|jämfört med|oförändra\w*|sedan (?:förra|tidigare)"
)
"""In ECG reports, and counted."""
_CHEST = (
    r"stable\b|compared\b|(?:increasing|decreasing|improving|improved|resolving|progressive|re-?demonstrated|recurrent)\b"
    r"|(?:larger|smaller|worse) (?:than|since|in)|(?:in|de)creased (?:from|since|compared)"
    r"|(?:has|have) (?:\w+ly )?(?:increased|decreased|developed|progressed|resolved|improved|worsened)\b"
    r"|interval(?:ly)? (?:\w+ )?(?:change|increase|decrease|improve|worsen|develop|resol|placement|removal|enlarge|progress|clear|new)\w*"
    r"|in the interval|(?:again|still) (?:seen|noted|demonstrated|present|identified)|since (?:the )?\w+ (?:exam|study|film|radiograph)"
    r"|prior (?:exam\w*|film|radiograph|x-?ray|ct|imaging|chest)"
)
"""In chest X-ray reports: guarded against, and counted."""
_LOOKS_BACK = (
    r"(?:stably|interval(?:ly)?|comparable|prior|earlier|since|again|still|now|remains?|(?:re-?)?demonstrated again|resol(?:v\w+|ution)"
    r"|improv\w+|worse|progress\w+|enlarging|(?:has|have|is|are|been|slightly|mildly) (?:\w+ly )?(?:in|de)creased|(?:in|de)creased in (?:size|extent)"
    r"|no (?:\w+ )?change|changed? (?:since|from)|larger|smaller|developed)\b"
)
"""What may look back and often does: guarded against, not counted."""
_COUNTED = (
    r"comparing|(?:has|have) (?:\w+ly )?(?:enlarged|cleared)"
    r"|(?:in|de)crease (?:from|since|compared)|better (?:than|since|in)"
    r"|(?:in|de)creased(?! (?:\w+ )?(?:risk|markings?|densit|lucency|lung volumes?|volumes?|attenuation|voltage|amplitude|ap |cardiothoracic"
    r"|radiolucency))"
)
"""Counted, but left to stand by the guards, which must not take 'increased interstitial markings' from a draft."""
_NOTHING_COMPARED = re.compile(
    r"(?i)\b(?:no|without) (?:(?:relevant|available|previous|prior|earlier|old|comparison) ){0,3}(?:comparisons?|priors?|stud(?:y|ies)|ecgs?"
    r"|tracings?|films?|radiographs?|examinations?)\b[^.]{0,60}|\bcomparison:? (?:none|not available|unavailable)"
    r"|\b(?:prior|previous) (?:\w+ )?(?:sternotomy|cabg|surgery|resection|lobectomy|mastectomy|thoracotomy|infarct\w*|myocardial infarct\w*"
    r"|fractures?)|\bnew york"
)
"""Words of comparison that compare nothing; not read by the guards."""


def _reader(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)\b(?:{'|'.join(words)})")


_NEW, _GONE = _reader(r"(?:new(?:ly)?|now)\b"), _reader(r"(?:no longer|resolved)\b")
_IN_ECG = _reader(_ALL, _ECG)
_IN_CHEST = _reader(_ALL, _CHEST, _LOOKS_BACK)
_IN_COUNT = _reader(_ALL, _ECG, _CHEST, _COUNTED)


def ecg_compares(sentence: str) -> bool:
    """Whether a sentence of an ECG report speaks of an earlier recording. English, German, Swedish."""
    return _IN_ECG.search(sentence) is not None


def chest_compares(sentence: str) -> bool:
    """Whether a sentence of a chest X-ray report speaks of an earlier study, or may."""
    return _IN_CHEST.search(sentence) is not None


def speaks_of_change(sentence: str) -> bool:
    """Whether a sentence compares with an earlier study, in ECG or chest X-ray words. That none is at hand compares nothing."""
    return _IN_COUNT.search(_NOTHING_COMPARED.sub(" ", sentence)) is not None


def says_new(sentence: str) -> bool:
    """Whether a comparison says that something was not there before."""
    return _NEW.search(sentence) is not None


def says_gone(sentence: str) -> bool:
    """Whether a comparison says that something is there no more."""
    return _GONE.search(sentence) is not None
