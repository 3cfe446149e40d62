"""Text metrics against worked cases, nltk, and slow oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from regen.data_prep.wording import common_subsequence, rouge_l, words
from regen.errors import DataError
from regen.eval.averages import mean
from regen.eval.text_metrics import bleu, copies, meteor_score, most_common, rouge_n, text_scores

tokens = st.lists(st.sampled_from(["sinus", "rhythm", "normal", "ecg", "lvh"]), max_size=80)
VOCABULARY = ["sinus", "rhythm", "normal", "ecg", "left", "axis", "deviation", "probable", "inferior", "infarction", "pvc", "t", "wave", "changes"]


def random_texts(rng: np.random.Generator, n: int, shortest: int = 1) -> list[str]:
    return [" ".join(rng.choice(VOCABULARY, rng.integers(shortest, 15))) for _ in range(n)]


def slow_common_subsequence(a: list[str], b: list[str]) -> int:
    """The textbook table, cell by cell."""
    cells = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            cells[i + 1][j + 1] = cells[i][j] + 1 if x == y else max(cells[i][j + 1], cells[i + 1][j])
    return cells[-1][-1]


def test_words_drop_case_and_punctuation_and_keep_umlauts() -> None:
    assert words("Probable LVH, stage II-III.") == ["probable", "lvh", "stage", "ii", "iii"]
    assert words("U\u0308berdrehter Linkstyp; T_Welle") == ["überdrehter", "linkstyp", "t", "welle"]
    assert words(" .,; ") == []


@given(tokens, tokens)
@settings(max_examples=200, deadline=None)
def test_common_subsequence_agrees_with_the_table(a: list[str], b: list[str]) -> None:
    assert common_subsequence(a, b) == slow_common_subsequence(a, b)


def test_rouge_l_of_a_worked_case() -> None:
    # common subsequence 'sinus rhythm ecg' (3), draft 4 words, reference 5
    assert rouge_l(["sinus", "rhythm", "abnormal", "ecg"], ["sinus", "rhythm", "otherwise", "normal", "ecg"]) == pytest.approx(2 * 3 / 9)
    assert rouge_l([], ["ecg"]) == 0.0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_corpus_bleu_agrees_with_nltk(order: int) -> None:
    """On drafts of four words and more: nltk counts a shorter one as if it had one run of four."""
    rng = np.random.default_rng(order)
    references = random_texts(rng, 40)
    drafts = [r if len(r.split()) > 3 and rng.random() < 0.4 else d for r, d in zip(references, random_texts(rng, 40, shortest=4), strict=True)]
    expected = corpus_bleu([[words(r)] for r in references], [words(d) for d in drafts], weights=[1 / order] * order)
    assert 0 < expected < 1
    assert bleu(text_scores(drafts, references), order)[0] == pytest.approx(expected, abs=1e-12)


def test_bleu_of_a_worked_case() -> None:
    scores = text_scores(["sinus rhythm lvh"], ["Sinus rhythm, probable LVH."])
    assert bleu(scores, 1)[0] == pytest.approx(math.exp(1 - 4 / 3))  # three of three words, too short by one
    assert bleu(scores, 2)[0] == pytest.approx(math.sqrt(1 / 2) * math.exp(1 - 4 / 3))
    assert bleu(scores, 3)[0] == 0.0  # no run of three matches, and nothing smooths it


def test_a_short_draft_adds_no_run_that_it_does_not_have() -> None:
    with_short = text_scores(["sinus rhythm normal ecg", "lvh"], ["sinus rhythm normal ecg", "lvh"])
    assert with_short.total.tolist() == [[4, 3, 2, 1], [1, 0, 0, 0]]
    assert bleu(with_short, 4)[0] == 1.0


def test_weights_are_the_corpus_repeated() -> None:
    rng = np.random.default_rng(3)
    drafts, references = random_texts(rng, 12), random_texts(rng, 12)
    times = rng.integers(0, 4, (5, 12))
    scores = text_scores(drafts, references)
    for draw, row in enumerate(times):
        again = text_scores(list(np.repeat(drafts, row)), list(np.repeat(references, row)))
        assert bleu(scores, 2, times.astype(float))[draw] == pytest.approx(bleu(again, 2)[0])
        assert mean(scores.rouge_l, times.astype(float))[draw] == pytest.approx(again.rouge_l.mean())


def test_take_is_the_score_of_the_part() -> None:
    rng = np.random.default_rng(4)
    drafts, references = random_texts(rng, 10), random_texts(rng, 10)
    rows = np.array([7, 1, 4])
    part = text_scores([drafts[i] for i in rows], [references[i] for i in rows])
    taken = text_scores(drafts, references).take(rows)
    for name in ("matched", "total", "lengths", "rouge_l", "meteor"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(part, name))


def test_meteor_of_worked_cases() -> None:
    reference = ["sinus", "rhythm", "normal", "axis"]
    assert meteor_score(reference, reference) == pytest.approx(1 - 0.5 / 4**3)  # one chunk of four
    # two of three words match in two chunks: P 2/3, R 2/4, F = PR / (.9 P + .1 R), penalty .5 (2/2)^3
    precision, recall = 2 / 3, 1 / 2
    expected = precision * recall / (0.9 * precision + 0.1 * recall) * 0.5
    assert meteor_score(["sinus", "bradycardia", "axis"], reference) == pytest.approx(expected)
    assert meteor_score(["infarctions"], ["infarction"]) == pytest.approx(0.5)  # same stem
    assert meteor_score(["complexes"], ["beats"]) == 0.0  # synonyms are not asked for


def test_gold_scores_one_and_an_empty_draft_zero() -> None:
    gold = ["Sinus rhythm. Left axis deviation. LVH.", "Atrial fibrillation with rapid response."]
    same, empty = text_scores(gold, gold), text_scores(["", ""], gold)
    for order in (1, 2, 3, 4):
        assert bleu(same, order)[0] == 1.0
        assert bleu(empty, order)[0] == 0.0
    assert mean(same.rouge_l)[0] == 1.0
    assert mean(empty.rouge_l)[0] == mean(empty.meteor)[0] == 0.0


def test_a_study_without_reference_text_is_left_out() -> None:
    one = text_scores(["sinus rhythm normal ecg"], ["sinus rhythm normal ecg"])
    both = text_scores(["sinus rhythm normal ecg", "lvh with strain"], ["sinus rhythm normal ecg", ""])
    assert bleu(both)[0] == bleu(one)[0] == 1.0
    assert mean(both.meteor)[0] == mean(one.meteor)[0]
    none = text_scores(["lvh"], [""])
    assert np.isnan([bleu(none)[0], mean(none.rouge_l)[0], mean(none.meteor)[0]]).all()


def test_repeated_pairs_score_as_if_alone() -> None:
    drafts, references = ["sinus rhythm lvh", "paced rhythm", "sinus rhythm lvh"], ["sinus rhythm", "paced", "sinus rhythm"]
    scores = text_scores(drafts, references)
    alone = text_scores(drafts[:1], references[:1])
    np.testing.assert_array_equal(scores.matched[2], alone.matched[0])
    np.testing.assert_array_equal(scores.lengths[2], alone.lengths[0])
    assert scores.meteor[2] == alone.meteor[0] > 0


def test_uneven_lists_are_refused() -> None:
    with pytest.raises(DataError, match="2 drafts and 1 references"):
        text_scores(["a", "b"], ["a"])


def test_copies_ignore_case_and_punctuation() -> None:
    training = ["Sinus rhythm. Normal ECG.", ""]
    assert copies(["sinus rhythm, normal ecg", "sinus rhythm", ""], training).tolist() == [1, 0, 0]


def test_most_common_draft() -> None:
    assert most_common(["A.", "b", "a", "c"]).tolist() == [1, 0, 1, 0]
    assert most_common(["a", "b", "c", "d"]).mean() == 0.25
    assert most_common(["a", "a"]).mean() == 1.0
    assert most_common([]).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=6))
def test_equal_to_the_usual_libraries(pairs: list[tuple[list[str], list[str]]]) -> None:
    """sacrebleu's corpus BLEU, rouge-score's ROUGE-1, -2, -L and nltk's METEOR, on texts that all of them split alike."""
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    pairs = [(ours, theirs) for ours, theirs in pairs if theirs]
    if not pairs:
        return
    drafts, references = ([" ".join(pair[i]) for pair in pairs] for i in (0, 1))
    scores = text_scores(drafts, references)
    peer = BLEU(tokenize="none", smooth_method="none", max_ngram_order=4).corpus_score(drafts, [references])
    assert bleu(scores, 4)[0] == pytest.approx(peer.score / 100, abs=1e-6)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for i, (draft, reference) in enumerate(zip(drafts, references, strict=True)):
        expected = rouge.score(reference, draft)
        assert rouge_n(scores, 1)[i] == pytest.approx(expected["rouge1"].fmeasure, abs=1e-6)
        assert rouge_n(scores, 2)[i] == pytest.approx(expected["rouge2"].fmeasure, abs=1e-6)
        assert scores.rouge_l[i] == pytest.approx(expected["rougeL"].fmeasure, abs=1e-6)
        assert scores.meteor[i] == pytest.approx(single_meteor_score(pairs[i][1], pairs[i][0], wordnet=_Nothing()), abs=1e-6)


class _Nothing:
    """A thesaurus without an entry, as the product's METEOR has none."""

    def synsets(self, word: str) -> list[object]:
        return []
