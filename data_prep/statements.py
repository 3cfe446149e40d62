"""The catalogue of ECG statements: one table that labels, rendered reports, drafts and report reading all use.

    BY_CODE["IMI"]  ->  Statement(code="IMI", label="Inferior myocardial infarction", group="infarction", ...)

Codes are those of SCP-ECG as PTB-XL uses them (Wagner et al., Scientific Data 7:154, 2020), and its heart-axis codes. `pattern`
finds the statement in English, German or Swedish text that was lower-cased by `fold`; in PTB-XL all three are mixed. `implies`
lists what the statement says beside itself (a bifascicular block is a right bundle branch and a left anterior fascicular block).
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = ("rhythm", "axis", "conduction", "hypertrophy", "infarction", "st_t", "ectopy", "summary", "quality")
"""Clinical order of a report."""
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing an ECG report can say. scp: counted as an SCP finding (axis and quality are not)."""

    code: str
    label: str
    group: str
    pattern: str = ""
    scp: bool = True
    implies: tuple[str, ...] = ()


_INFARCT = (
    r"(?: (?:wall )?(?:myocardial |subendocardial )?(?:infarct\w*|mi\b)|(?:er|en)? ?(?:infarkt\w*|myokardschaden|myokardskada|myokardaffektion))"
)
_ISCHAEMIA = (
    r"(?: (?:t wave changes? (?:may be|are|is)?[a-z ]*(?:due to )?)?(?:myocardial )?isch?(?:ae|e)mi\w*|(?:e|er)? ?isch(?:ä|ae|e)mie\w*| ischemi\b)"
)
_INJURY = r"(?: (?:subendocardial |subepicardial )?injury\w*|(?:er|e)? ?innenschicht\w*)"
_ABNORMAL_T = r"t (?:abnorm\w*|neg\w*) in (?:den )?"


def _region(words: str, what: str) -> str:
    """An English or German region before what happened there: 'inferior myocardial infarction', 'inferiorer infarkt'."""
    return rf"\b(?:{words}){what}"


def _old(words: str) -> str:
    """PTB-XL reports are cut at line ends: 'consistent with old inferior' stands for the infarction."""
    return rf"\bold (?:{words})(?! (?:isch|q))(?: (?:myocardial )?infarct\w*)?"


def _infarct(words: str) -> str:
    return f"{_region(words, _INFARCT)}|{_old(words)}|\\binfarct\\w*,? (?:of the )?(?:{words})\\b"


def _ischaemic(words: str, leads: str) -> str:
    return (
        f"{_region(words, _ISCHAEMIA)}|{_ABNORMAL_T}(?:{words})en\\b|\\b(?:{words}) st[- /]?t (?:wave )?(?:changes?|abnormalit\\w+)"
        f"|\\bisch?(?:ae|e)mic (?:changes )?in (?:the )?(?:{leads})\\b"
    )


_ROWS: tuple[Statement, ...] = (
    # rhythm
    Statement("SR", "Sinus rhythm", "rhythm", r"\bsinus ?rhyth?m\w*|\bsinusrytm\b|\bsr\b(?=[ ,.]|$)"),
    Statement("STACH", "Sinus tachycardia", "rhythm", r"\bsinus ?tach[yi][ck]ardi\w*|\bsinustakykardi\w*"),
    Statement("SBRAD", "Sinus bradycardia", "rhythm", r"\b(?:marked )?sinus ?brad[yi][ck]ardi\w*"),
    Statement("SARRH", "Sinus arrhythmia", "rhythm", r"\bsinus ?arr?h?[yi]thmi\w*|\bsinusarytmi\w*"),
    Statement("AFIB", "Atrial fibrillation", "rhythm",
              r"\batrial fibrillation\b|\ba\.?fib\b|\b\w*vorhofflimmern(?:/-flattern)?|\bförmaksflimmer(?:/-fladder)?"),
    Statement("AFLT", "Atrial flutter", "rhythm", r"\batrial flutter\b|(?<!/-)\bvorhofflattern\b|(?<!/-)\bförmaksfladder\b"),
    Statement("SVARR", "Supraventricular arrhythmia", "rhythm", r"\bsupraventric?k?ul(?:ar|äre?|aere) arr?h?[yi]thmi\w*"),
    Statement("SVTAC", "Supraventricular tachycardia", "rhythm",
              r"\bsupraventricular tachycardia\b|\bsvt\b|\bsupraventrikuläre tachykardie"),
    Statement("PSVT", "Paroxysmal supraventricular tachycardia", "rhythm",
              r"\bparoxysmal supraventricular tachycardia|\bparoxysmale supraventrikuläre tachykardie"),
    Statement("PACE", "Paced rhythm", "rhythm",
              r"\bpace[- ]?maker(?! present)\w*|\bpaced\b(?: rhythm)?|\bschrittmacher\w*|\b(?:atrial|ventricular|av)[- ](?:dual[- ])?paced\b"),
    # frontal axis (PTB-XL's heart_axis codes)
    Statement("MID", "Normal axis", "axis", r"\bnormal (?:frontal |qrs )?axis\b|\blagetyp normal\b|\bindifferenztyp\b|\bnormal el-axel\b", scp=False),
    Statement("AXL", "Leftward axis", "axis", r"\bleftward axis\b|\bborderline left axis\b(?: deviation)?", scp=False),
    Statement("AXR", "Rightward axis", "axis", r"\brightward axis\b|\bborderline right axis\b(?: deviation)?|\bsteiltyp\b", scp=False),
    Statement("LAD", "Left axis deviation", "axis", r"\b(?:abnormal )?left axis deviation\b|\blinks(?:lage)?typ\b|\bllt\b|\bvänster el-axel\b", scp=False),
    Statement("ALAD", "Marked left axis deviation", "axis",
              r"\b(?:marked|extreme) left axis deviation\b|\b(?:extrem )?(?:ueber|über)drehter linkstyp\b|\büllt\b|\bextrem vänster el-axel\b", scp=False),
    Statement("RAD", "Right axis deviation", "axis", r"\bright axis deviation\b|\brechts(?:lage)?typ\b|\bhöger el-axel\b", scp=False),
    Statement("ARAD", "Marked right axis deviation", "axis",
              r"\b(?:marked|extreme) right axis deviation\b|\bright superior axis(?: deviation)?\b|\b(?:ueber|über)drehter rechtstyp\b", scp=False),
    Statement("SAG", "Sagittal axis (S1S2S3)", "axis", r"\bsagittal\w*|\bs1 ?s2 ?s3\b", scp=False),
    # conduction
    Statement("LPR", "Prolonged PR interval", "conduction", r"\bprolonged pr\b(?: interval)?|\bpr prolongation\b|\bpq-verlängerung"),
    Statement("1AVB", "First-degree AV block", "conduction",
              r"\b(?:first[- ]degree|1st[- ]degree) a-?v[- ]block|\ba-?v[- ]?block(?: ?1\.? ?grades?| ?i\.? ?grades?| ?i\b(?!i))|\b1st degree atrio\w+ block"),
    Statement("2AVB", "Second-degree AV block", "conduction", r"\b(?:second[- ]degree|2nd[- ]degree) a-?v[- ]block|\ba-?v[- ]?block(?: ?2\.? ?grades?| ?ii\b(?!i))"),
    Statement("3AVB", "Third-degree AV block", "conduction",
              r"\b(?:third[- ]degree|3rd[- ]degree|complete) (?:a-?v[- ]block|heart block)|\ba-?v[- ]?block(?: ?3\.? ?grades?| ?iii\b)"),
    Statement("CLBBB", "Complete left bundle branch block", "conduction",
              r"\b(?:complete )?left bundle[- ]branch block|\blbbb\b|\b(?:kompl\w*\.? |vollst\w+ )?linksschenkelblock|\blsb\b|\bvänstersidigt skänkelblock"),
    Statement("ILBBB", "Incomplete left bundle branch block", "conduction",
              r"\bincomplete (?:left bundle[- ]branch block|lbbb)|\b(?:unvollst\w+|inkompl\w*\.?) linksschenkelblock"),
    Statement("CRBBB", "Complete right bundle branch block", "conduction",
              r"\b(?:complete )?right bundle[- ]branch block|\brbbb\b|\b(?:kompl\w*\.? |vollst\w+ )?rechtsschenkelblock|\brsb\b|\bhögersidigt skänkelblock"),
    Statement("IRBBB", "Incomplete right bundle branch block", "conduction",
              r"\bincomplete (?:right bundle[- ]branch block|rbbb)|\b(?:unvollst\w+|inkompl\w*\.?) rechtsschenkelblock|\binkomplett högersidigt skänkelblock"),
    Statement("LAFB", "Left anterior fascicular block", "conduction",
              r"\bleft anterior (?:fascicular|hemi-?) ?block|\blafb\b|\blinksanteriorer? hemiblock|\bvänster anteriort hemiblock"),
    Statement("LPFB", "Left posterior fascicular block", "conduction",
              r"\bleft posterior (?:fascicular|hemi-?) ?block|\blpfb\b|\blinksposteriorer? hemiblock"),
    Statement("BIFASC", "Bifascicular block", "conduction", r"\b(?:bi|tri)fas[cz]i[ck]ul\w+(?: block)?", scp=False, implies=("CRBBB", "LAFB")),
    Statement("IVCD", "Non-specific intraventricular conduction delay", "conduction",
              r"\b(?:non-?specific )?intraventricular (?:conduction )?(?:delay|block|disturbance|defect)"
              r"|\b(?:unspezifische[rn]? )?intraventr\w*\.? (?:block|leitungs\w+)|\bivcd\b"),
    Statement("WPW", "Wolff-Parkinson-White pattern", "conduction", r"\bwpw\b|\bwolff?[- ]parkinson[- ]white|\bpre-?excitation"),
    # hypertrophy and voltage
    Statement("LVH", "Left ventricular hypertrophy", "hypertrophy",
              r"\b(?:left ventricular|lv) hypertrophy\b|\blvh\b|\blinks(?:ventrikuläre )?hypertrophie|\bvänster kammarhypertrofi"),
    Statement("VCLVH", "Voltage criteria for left ventricular hypertrophy", "hypertrophy",
              r"\bvoltages? (?:are high in (?:chest|limb)[a-z ]*leads?(?: and [a-z ]*leads?)?,?[a-z ]*suggest\w* (?:lvh|left ventricular hypertrophy)"
              r"|criteria(?: \(qrs\))? for (?:lvh|left ventricular hypertrophy))"
              r"|\bamplitudenkriterien für linkshypertrophie|\bamplitudkriterier för vänster kammarhypertrofi|\blvh by voltage"),
    Statement("RVH", "Right ventricular hypertrophy", "hypertrophy", r"\b(?:right ventricular|rv) hypertrophy\b|\brvh\b|\brechts(?:ventrikuläre )?hypertrophie"),
    Statement("SEHYP", "Septal hypertrophy", "hypertrophy", r"\bseptal hypertrophy|\bseptumhypertrophie"),
    Statement("LAO/LAE", "Left atrial enlargement", "hypertrophy",
              r"\bleft atrial (?:enlargement|overload|abnormality|hypertrophy)|\bp-sinistro[ck]ardiale|\bp-mitrale"),
    Statement("RAO/RAE", "Right atrial enlargement", "hypertrophy", r"\bright atrial (?:enlargement|overload|abnormality)|\bp-dextro[ck]ardiale|\bp-pulmonale"),
    Statement("HVOLT", "High QRS voltage", "hypertrophy", r"\bhigh (?:qrs |[a-z]+ lead )?voltages?\b|\bvoltages? in [a-z]+ leads (?:is|are) at upper limit"),
    Statement("LVOLT", "Low QRS voltage", "hypertrophy",
              r"\blow (?:limb lead |qrs )?voltages?\b(?: in [a-z]+ leads)?|\b(?:periphere )?niederspannung\b|\blåga qrs amplituder"),
    # infarction
    Statement("ABQRS", "Abnormal QRS", "infarction", r"\babnormal qrs\b|\bqrs\(t\) abnorm\w*|\bavvikande qrs\(t\) förlopp"),
    Statement("QWAVE", "Q waves present", "infarction", r"\bq waves? (?:present|in)\b|\b(?:deep |pathological |abnormal )q waves?\b|\b(?:path\w*\.? )?q in\b"),
    Statement("IMI", "Inferior myocardial infarction", "infarction", _infarct("inferior")),
    Statement("ASMI", "Anteroseptal myocardial infarction", "infarction", _infarct("antero-?septal|septal")),
    Statement("AMI", "Anterior myocardial infarction", "infarction", _infarct("anterior")),
    Statement("ALMI", "Anterolateral myocardial infarction", "infarction", _infarct("antero-?lateral")),
    Statement("LMI", "Lateral myocardial infarction", "infarction", _infarct("lateral|hochlateral|high lateral|hög lateral")),
    Statement("ILMI", "Inferolateral myocardial infarction", "infarction", _infarct("infero-?lateral")),
    Statement("IPMI", "Inferoposterior myocardial infarction", "infarction", _infarct("infero-?posterior")),
    Statement("IPLMI", "Inferoposterolateral myocardial infarction", "infarction", _infarct("infero-?postero-?lateral")),
    Statement("PMI", "Posterior myocardial infarction", "infarction", _infarct("posterior")),
    Statement("INJAS", "Subendocardial injury in anteroseptal leads", "infarction", _region("antero-?septal|anterior", _INJURY) + r"|\b(?:subendocardial )?injury in (?:the )?anteroseptal"),
    Statement("INJAL", "Subendocardial injury in anterolateral leads", "infarction", _region("antero-?lateral", _INJURY) + r"|\b(?:subendocardial )?injury in (?:the )?anterolateral"),
    Statement("INJIN", "Subendocardial injury in inferior leads", "infarction", _region("inferior", _INJURY) + r"|\b(?:subendocardial )?injury in (?:the )?inferior\b"),
    Statement("INJLA", "Subendocardial injury in lateral leads", "infarction", _region("lateral", _INJURY) + r"|\b(?:subendocardial )?injury in (?:the )?lateral"),
    Statement("INJIL", "Subendocardial injury in inferolateral leads", "infarction", _region("infero-?lateral", _INJURY) + r"|\b(?:subendocardial )?injury in (?:the )?inferolateral"),
    # ST segment and T wave
    Statement("ISC_", "Ischaemic ST-T changes", "st_t",
              r"\b(?:non-?specific )?isch?(?:ae|e)mic st-?t changes(?! in)|\blv strain or isch?(?:ae|e)mia|\b(?:myocardial )?isch(?:ae|e)mia is (?:the )?likely"),
    Statement("ISCAL", "Ischaemic changes in anterolateral leads", "st_t", _ischaemic("antero-?lateral", "anterolateral")),
    Statement("ISCIN", "Ischaemic changes in inferior leads", "st_t", _ischaemic("inferior", "inferior")),
    Statement("ISCIL", "Ischaemic changes in inferolateral leads", "st_t", _ischaemic("infero-?lateral", "inferolateral")),
    Statement("ISCAS", "Ischaemic changes in anteroseptal leads", "st_t", _ischaemic("antero-?septal", "anteroseptal")),
    Statement("ISCLA", "Ischaemic changes in lateral leads", "st_t", _ischaemic("lateral|hochlateral|high lateral", "lateral")),
    Statement("ISCAN", "Ischaemic changes in anterior leads", "st_t", _ischaemic("anterior", "anterior")),
    Statement("NST_", "Non-specific ST changes", "st_t",
              r"\bnon-?specific st(?: segment)?[- ]?(?:t wave |t )?(?:changes?|abnormalit\w+)|\bunspezifische abnorme st-senkung|\bospecifik st"),
    Statement("STD_", "ST depression", "st_t",
              r"\b(?:non-?specific )?st(?:[- ]segments?)?(?: (?:is|are))?(?: (?:slightly|minimally))?[- ](?:depress\w+|senkung\w*)|\bst-?t? sänkning"),
    Statement("STE_", "ST elevation", "st_t",
              r"\b(?:non-?specific )?st(?:[- ]segments?)?(?: (?:is|are))?(?: (?:slightly|minimally))?[- ](?:elevat\w+|hebung\w*)|\bst-höjning"),
    Statement("NDT", "Non-diagnostic T-wave abnormality", "st_t",
              r"\bnon-?diagnostic t[- ](?:wave )?abnormalit\w+|\bunspezifische[s]? abnorm\w* t\b|\bospecifik t-förändring"),
    Statement("NT_", "Non-specific T-wave changes", "st_t", r"\bnon-?specific t[- ]wave (?:changes?|flattening|abnormalit\w+)"),
    Statement("LOWT", "Low T-wave amplitude", "st_t", r"\bt waves are (?:low|flat)(?: or (?:low|flat))?|\blow(?: amplitude)? t[- ]waves?\b(?: amplitude)?|\bflaches? t\b|\bt flach"),
    Statement("INVT", "Inverted T waves", "st_t",
              r"\bt waves? (?:are )?(?:slightly )?inver(?:ted|sion)\b|\binverted t waves?|\bt neg\w*\b(?! in)|\bt-negativierung|\bdepressed and t waves inverted"),
    Statement("TAB_", "T-wave abnormality", "st_t", r"(?<!diagnostic )(?<!specific )\bt[- ]wave abnormalit\w+|\bt-veränderung\w*|\bt-veraenderung\w*"),
    Statement("DIG", "Digitalis effect", "st_t", r"\bdigitalis\w*(?: effect)?|\bdigoxin effect"),
    Statement("LNGQT", "Long QT interval", "st_t", r"\b(?:long|prolonged) qt\b(?: interval)?|\bqt-verlängerung|\bförlängt qt"),
    Statement("EL", "Electrolyte disturbance or drug effect", "st_t", r"\belectrol\w+ (?:disturbance|abnormalit\w+)(?: or drug effect)?|\bdrug effect\b|\bhypokal\w+|\belektrolyt\w+"),
    Statement("ANEUR", "ST-T changes compatible with ventricular aneurysm", "st_t", r"\b(?:st-t changes compatible with )?(?:ventricular )?aneurysm\w*|\baneurysma"),
    # ectopy
    Statement("PVC", "Ventricular premature complexes", "ectopy",
              r"\bventricular (?:premature (?:complex(?:es)?|beats?|contractions?)|extrasystoles?|ectopics?)|\bpremature ventricular (?:complex(?:es)?|contraction\(?s?\)?|beats?)"
              r"|\bpvcs?\b|(?<!supra)\bventrik\w+ extrasystole\(?n?\)?|\bventr\. extrasyst\w*|\bves\b|\bventrikulär\w*\(?a?\)? extrasystol\w*"),
    Statement("PAC", "Atrial premature complexes", "ectopy",
              r"\b(?:atrial|supraventricular) (?:premature (?:complex(?:es)?|beats?|contractions?)|extrasystoles?|ectopics?)|\bpremature (?:atrial|supraventricular) (?:complex(?:es)?|contraction\(?s?\)?|beats?)"
              r"|\bpacs?\b|\bsupraventrik\w+ extrasystole\(?n?\)?|\bsves\b"),
    Statement("PRC(S)", "Premature complexes", "ectopy", r"\bpremature complex(?:\(?es\)?)?(?! \()"),
    Statement("BIGU", "Bigeminal pattern", "ectopy", r"\bbigemin\w+(?: pattern)?"),
    Statement("TRIGU", "Trigeminal pattern", "ectopy", r"\btrigemin\w+(?: pattern)?"),
    Statement("XB", "Extra beats", "ectopy", r"\bextra beats\b", scp=False),
    # the whole
    Statement("NORM", "Normal ECG", "summary",
              r"\b(?:otherwise |probably |possibly )?normal e[ck]g\b|\bno definite pathology|\bwithin normal limits|\b(?:sonst )?norma(?:l|e)[el]?s ekg|\b(?:eljest )?normalt ekg"
              r"|\binget säkert patologiskt"),
    # quality of the recording (PTB-XL's noise columns; never an input to anything)
    Statement("DRIFT", "Baseline drift", "quality", r"\bbaseline (?:drift|wander)", scp=False),
    Statement("STATIC", "Static noise", "quality", r"\bstatic noise", scp=False),
    Statement("BURST", "Burst noise", "quality", r"\bburst noise", scp=False),
    Statement("ELECTRODE", "Electrode problem", "quality", r"\belectrode problems?|\bpoor electrode contact", scp=False),
)  # fmt: skip

_SUPERCLASS = {
    "STTC": "NDT NST_ DIG LNGQT ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ISCAN ANEUR EL",
    "CD": "LAFB IRBBB 1AVB IVCD CRBBB CLBBB LPFB WPW ILBBB 2AVB 3AVB",
    "HYP": "LVH LAO/LAE RVH RAO/RAE SEHYP",
    "MI": "IMI ASMI AMI ALMI LMI ILMI IPMI IPLMI PMI INJAS INJAL INJIN INJLA INJIL",
    "NORM": "NORM",
}
SUPERCLASS_OF: dict[str, str] = {code: name for name, codes in _SUPERCLASS.items() for code in codes.split()}
"""SCP diagnostic statement -> PTB-XL superclass."""

STATEMENTS: tuple[Statement, ...] = _ROWS
BY_CODE: dict[str, Statement] = {s.code: s for s in STATEMENTS}
CODES: tuple[str, ...] = tuple(s.code for s in STATEMENTS if s.scp)
"""The 71 SCP codes of PTB-XL, in clinical order; the order of every label matrix."""
AXES: tuple[str, ...] = tuple(s.code for s in STATEMENTS if s.group == "axis")


def _exclusions() -> dict[str, frozenset[str]]:
    sinus, fast = ("SR", "STACH", "SBRAD"), ("AFIB", "AFLT", "SVTAC", "PSVT")
    abnormal = [c for c, name in SUPERCLASS_OF.items() if name == "MI" or c.startswith(("ISC", "INJ"))]
    abnormal += [
        "CLBBB",
        "CRBBB",
        "ILBBB",
        "2AVB",
        "3AVB",
        "WPW",
        "PACE",
        "LVH",
        "RVH",
        "LAFB",
        "LPFB",
        "ANEUR",
        "LNGQT",
        "STD_",
        "STE_",
        "INVT",
        *fast,
    ]
    one_of = [
        (*sinus, *fast), ("SARRH", *fast), ("SARRH", "STACH"), ("CLBBB", "ILBBB", "CRBBB"), ("CRBBB", "IRBBB"), ("CLBBB", "IRBBB"),
        ("1AVB", "2AVB", "3AVB"), ("LAFB", "LPFB"), ("HVOLT", "LVOLT"), *((block, rhythm) for block in ("1AVB", "LPR", "2AVB") for rhythm in fast),
        *(("NORM", code) for code in abnormal), ("LVH", "VCLVH"),
        *(("PACE", code) for code in ("1AVB", "LPR", "CLBBB", "ILBBB", "CRBBB", "IRBBB", "LAFB", "LPFB", "IVCD", "WPW", "LVH", "VCLVH")),
    ]  # fmt: skip
    out: dict[str, set[str]] = {}
    for group in one_of:
        for code in group:
            out.setdefault(code, set()).update(c for c in group if c != code)
    return {code: frozenset(others) for code, others in out.items()}


EXCLUDES: dict[str, frozenset[str]] = _exclusions()
"""Statements that one report cannot make together: one rhythm of the atria, one degree of block, no normal ECG with an infarction, nothing read
off the conduction or the voltage of a paced beat; hypertrophy says what its voltage criteria say.

Some coded cases of PTB-XL do hold such a pair; a draft that does reads as a mistake.
"""
