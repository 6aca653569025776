"""The menus of a USSD gateway: texts in several languages, and what follows on which answer.

Written as plain dicts, one level in the other. A level has its text under "text", in one language or in several, and
what follows under the answers that a user may give; a text alone is where it ends.

    {"text": "1 Balance, 2 Bundles", "1": "You have 12.50 EUR.", "2": {"text": "1 Day, 2 Month", "1": ..., "2": ...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from labkit.errors import LessonError

DEFAULT_LANGUAGE: Final = "en"
"""Language of a text that does not say which it is in."""
MAX_LEVELS: Final = 16
"""Most levels of a menu."""

DEMO_MENU: Final = {
    "text": {
        "en": "1 Balance\n2 Bundles",
        "ru": "1 Баланс\n2 Пакеты",
        "ar": "1 الرصيد\n2 الباقات",
    },
    "1": {
        "en": "You have 12.50 EUR.",
        "ru": "У вас 12,50 евро.",
        "ar": "رصيدك 12.50 يورو.",
    },
    "2": {
        "text": {
            "en": "1 Day, 1 GB\n2 Month, 20 GB",
            "ru": "1 День, 1 ГБ\n2 Месяц, 20 ГБ",
            "ar": "1 يوم، 1 غيغابايت\n2 شهر، 20 غيغابايت",
        },
        "1": {
            "text": {
                "en": "1 GB for 2 EUR. 1 Buy, 2 Not now",
                "ru": "1 ГБ за 2 евро. 1 Купить, 2 Не сейчас",
                "ar": "1 غيغابايت مقابل 2 يورو. 1 شراء، 2 ليس الآن",
            },
            "1": {"en": "Yours until tomorrow.", "ru": "Ваш до завтра.", "ar": "لك حتى الغد."},
            "2": {"en": "Nothing bought.", "ru": "Ничего не куплено.", "ar": "لم يتم شراء أي شيء."},
        },
        "2": {
            "text": {
                "en": "20 GB for 15 EUR. 1 Buy, 2 Not now",
                "ru": "20 ГБ за 15 евро. 1 Купить, 2 Не сейчас",
                "ar": "20 غيغابايت مقابل 15 يورو. 1 شراء، 2 ليس الآن",
            },
            "1": {"en": "Yours for a month.", "ru": "Ваш на месяц.", "ar": "لك لمدة شهر."},
            "2": {"en": "Nothing bought.", "ru": "Ничего не куплено.", "ar": "لم يتم شراء أي شيء."},
        },
    },
}
"""A menu of three levels in three languages."""


@dataclass(frozen=True, slots=True)
class Menu:
    """One level of a menu; without choices it is where the dialogue ends."""

    texts: Mapping[str, str]
    """What is shown, by language."""
    choices: Mapping[str, Menu]
    """What follows, by the user's answer."""

    @property
    def is_last(self) -> bool:
        """Whether nothing is asked here."""
        return not self.choices

    def text_in(self, language: str) -> str | None:
        """The text in a language ("" is the default one), None where there is none in it."""
        return self.texts.get(language.strip().lower().partition("-")[0] or DEFAULT_LANGUAGE)

    def after(self, answer: str) -> Menu | None:
        """What follows on an answer, None when the menu does not have it."""
        return self.choices.get(answer.strip())


def read_menu(written: Any, level: int = 1) -> Menu:
    """Make a menu of what is written as in the head of this module.

    Raises:
        LessonError: it is written in another way.
    """
    if level > MAX_LEVELS:
        raise LessonError(f"A USSD menu has at most {MAX_LEVELS} levels.")
    if isinstance(written, str):
        return Menu({DEFAULT_LANGUAGE: written}, {})
    if not isinstance(written, Mapping) or not written:
        raise LessonError(f"A USSD menu is a text or a dict, not {written!r}.")
    if "text" not in written:
        return Menu(_texts(written), {})
    text = written["text"]
    texts = {DEFAULT_LANGUAGE: text} if isinstance(text, str) else _texts(text)
    choices = {str(answer): read_menu(then, level + 1) for answer, then in written.items() if answer != "text"}
    return Menu(texts, choices)


def _texts(written: Any) -> dict[str, str]:
    if not isinstance(written, Mapping) or not all(
        isinstance(language, str) and language.isalpha() and isinstance(text, str) for language, text in written.items()
    ):
        raise LessonError(f'Texts of a USSD menu are a dict like {{"en": "Hello"}}, not {written!r}.')
    return {language.lower(): text for language, text in written.items()}
