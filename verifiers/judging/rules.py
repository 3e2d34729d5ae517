"""Answers that no judge is asked about: nothing was said, or only the beginning of an answer.

A lone ":" or "Thought process:" was scored as right by strong judges in 35-90 % of the cases (arXiv 2507.08794), so
such answers are 0 by rule. The rule is narrow: one letter, digit or symbol of meaning is enough to be judged, for in
mathematics "7", "x" or "∞" is a whole answer.
"""

from __future__ import annotations

import re
import unicodedata

EMPTY, NO_CONTENT, OPENER = "empty", "no_content", "opener"

_VALUES = frozenset({"{}", "[]", "()", '""', "''"})
"""An empty set, list, tuple or string is an answer to some questions."""

_SUBJECTS = "this|it|the problem|this problem|the question|this question|the task|this task|the equation"
_WAYS = "step by step|step-by-step|carefully|in steps|one step at a time|together|systematically"
_VERBS = "solve|think(?: about| through)?|work(?: through| out)?|break down|analy[sz]e|consider|look at|tackle"
_FILLERS = frozenset({"ok", "okay", "alright", "sure", "certainly", "of course", "well", "hmm", "great question"})
"""Openers in company; alone they may be an answer ("Will you help me?")."""
_LETS = re.compile(
    rf"(?:ok(?:ay)? |alright |so |well |first |now )?(?:let us|let me|lets|we will|we need to|i will|i need to)"
    rf"(?: now| first)? (?:{_VERBS})(?: (?:{_SUBJECTS}))?(?: down| through)?(?: (?:{_WAYS}))?"
)
_OPENERS = frozenset(
    plain
    for phrases in (
        # English
        "solution|the solution|answer|the answer|the answer is|final answer|the final answer is|my answer|result",
        "explanation|reasoning|thought|thoughts|thought process|thinking|thinking process|analysis|proof|response",
        "step 1|step one|step by step|step by step solution|here is the answer|here is the solution|here it is",
        "here is my answer|here is my solution|here is a solution|heres the answer|heres the solution|assistant",
        "sure here is the answer|sure here is the solution|to solve this|to solve this problem|output|conclusion",
        # German, Dutch
        "lösung|die lösung|antwort|die antwort|die antwort lautet|ergebnis|erklärung|gedankengang|überlegung",
        "lass uns das schritt für schritt lösen|schritt für schritt|oplossing|antwoord|het antwoord|uitleg",
        # French, Italian
        "la solution|réponse|la réponse|la réponse est|explication|raisonnement|résolvons ce problème étape par étape",
        "étape par étape|soluzione|la soluzione|risposta|la risposta|spiegazione|ragionamento|passo dopo passo",
        # Spanish, Portuguese
        "solución|la solución|respuesta|la respuesta|la respuesta es|explicación|razonamiento|paso a paso",
        "resolvamos este problema paso a paso|vamos a resolverlo paso a paso|solução|a solução|resposta|a resposta",
        "explicação|raciocínio|passo a passo|vamos resolver passo a passo",
        # Polish, Czech, Swedish, Finnish, Turkish, Vietnamese, Indonesian
        "rozwiązanie|odpowiedź|wyjaśnienie|krok po kroku|řešení|odpověď|lösning|svar|ratkaisu|vastaus",
        "çözüm|cevap|yanıt|açıklama|adım adım çözelim|lời giải|câu trả lời|giải|đáp án|jawaban|penyelesaian|solusi",
        # Russian, Ukrainian, Greek
        "решение|ответ|объяснение|рассуждение|ход мыслей|давайте решим это шаг за шагом|шаг за шагом|розв'язання",
        "рішення|відповідь|λύση|απάντηση",
        # Arabic, Hebrew, Persian, Hindi, Bengali
        "الحل|الجواب|الإجابة|الشرح|פתרון|תשובה|جواب|پاسخ|راه حل|हल|उत्तर|समाधान|व्याख्या|সমাধান|উত্তর",
        # Chinese, Japanese, Korean
        "解|解答|答|答案|解析|分析|解题过程|思考过程|思路|让我们一步一步地解决这个问题|让我们一步步解决这个问题|一步一步来",
        "让我们一步一步思考|回答|解説|かいせつ|答え|こたえ|思考過程|ステップバイステップで考えましょう|풀이|정답|답|해설|해답|설명",
    )
    for plain in phrases.split("|")
)
_BREAKS = re.compile(r"[\n.:;,!?\u2026\u3002\uff0c\u3001]+")


def rejected(query: str, answer: str) -> str | None:
    """Why an answer is 0 by rule, before any call; None if a judge is to decide.

    ``empty``: nothing but spaces and invisible characters. ``no_content``: nothing but punctuation. ``opener``: only
    phrases that announce an answer, in any of some twenty languages. ``query`` is for rules to come: today the same
    answer gets the same ruling under every question.
    """
    del query
    folded = unicodedata.normalize("NFKC", answer)
    if not any(_visible(character) for character in folded):
        return EMPTY
    if not any(_says(character) for character in folded):
        return None if "".join(folded.split()) in _VALUES else NO_CONTENT
    if len(folded) > 400:  # longer than any chain of openers that a judge could mistake for an answer
        return None
    phrases = [phrase for part in _BREAKS.split(folded) if (phrase := _phrase(part))]
    opens = [phrase in _OPENERS or _LETS.fullmatch(phrase) is not None for phrase in phrases]
    if any(opens) and all(o or phrase in _FILLERS for o, phrase in zip(opens, phrases, strict=True)):
        return OPENER
    return None


def _visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "ZC"


def _says(character: str) -> bool:
    """Letters, digits, and symbols other than those of a keyboard: "∞" says something, "=" alone does not."""
    kind = unicodedata.category(character)[0]
    return kind in "LN" or (kind == "S" and not character.isascii())


def _phrase(part: str) -> str:
    """Lower case, single spaces, no punctuation but inside words: ``**Let's Think**`` is ``lets think``."""
    words = re.sub(r"['\u2019]s\b", "s", part.casefold())
    kept = "".join(c if _says(c) or c in "'-" or unicodedata.category(c)[0] == "M" else " " for c in words)
    return " ".join(kept.split()).strip("'- ")
