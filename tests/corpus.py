"""A corpus of many scripts and oddities, the same on every machine."""

import random
import unicodedata

SEEDS = {
    "english": """The quick brown fox jumps over the lazy dog.
It's what we'd've said: they're here, I'll go, she'S LOUD, WE'VE, don'T, 'tis, rock 'n' roll, y'all'd.
"To be, or not to be," said he; that is the question -- isn't it?
Dr. Smith (b. 1961) paid $1,234.56 for 3.5kg of No. 2 pencils at 5:45 p.m. on 2024-02-29.
internationalization Pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
MiXeD CaSe HTMLParser camelCaseName snake_case_name SCREAMING_SNAKE kebab-case-name iPhone McDonald's""",
    "european": """Größe, Straße, Übermut: „Fünf“ Äpfel kosten 3,50 €.
L'été où l'on naquit, ça va? Œuvre, naïve, Noël, çà et là, aujourd'hui.
El niño comió jamón; ¿dónde está la cigüeña? ¡Allí!
Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Þetta er íslenska. İstanbul'da ışık.""",
    "russian": """Съешь же ещё этих мягких французских булок, да выпей чаю.
В чащах юга жил бы цитрус? Да, но фальшивый экземпляр! Ёлка, їжак, ґрунт.""",
    "chinese": """天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。
我今天学习了大语言模型的解码算法，包括贪心搜索、束搜索和推测解码。
她说：“你好！”然后离开了……价格是¥１２３．４５元。𠮷野家𪚥""",
    "japanese": """吾輩は猫である。名前はまだ無い。
カタカナとひらがなと漢字が混ざったテキストです。ｶﾀｶﾅ、ハーフ！ガギグゲゴ""",
    "korean": """키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.
안녕하세요? 저는 학생입니다. 각 ㄱㅏㄴㅏ""",
    "arabic": """السلام عليكم ورحمة الله وبركاته، كيف حالك اليوم؟
بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ ١٢٣٤٥ שלום עולם נִקּוּד""",
    "indic": """हिन्दी में लिखा हुआ एक वाक्य, क्षत्रिय और ज्ञान। १२३४५
வணக்கம் உலகம் తెలుగు ಕನ್ನಡ മലയാളം বাংলা ไทยภาษา ភាសាខ្មែរ བོད་སྐད།""",
    "emoji": """😀😃 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇳🇩🇪 👨🏿‍🚀 ❤️ ☕️ 1️⃣ 🧑🏻‍🤝‍🧑🏾
I ❤ 🍕!!! 🤷‍♀️ ¯\\_(ツ)_/¯ (╯°□°)╯︵ ┻━┻""",
    "code": """def f(x: int) -> list[int]:\n    return [i ** 2 for i in range(x) if i % 2 == 0]  # squares
for (int i = 0; i < n; ++i) { a[i] += b[i] * 0x1F; } // C
const f = async ({a, b}) => { await fetch(`/api/${a}?q=${b}`); };
SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name HAVING COUNT(*) > 1;
fn main() -> Result<(), Box<dyn Error>> { println!("{:?}", x?); }
<div class="a">&nbsp;</div>\t<!-- c -->\n\n\n\n\t\tif err != nil {\n\t\t\treturn err\n\t\t}
#!/bin/sh\nfind . -name '*.py' | xargs grep -n "TODO" 2>/dev/null || exit 1""",
    "signs": """!!! ??? ... ---- ==== **** #### //// \\\\\\\\ $$$ %%% ^^^ &&& ((( ))) [[ ]] {{ }} <<>> ~~ `` '' ""
¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿ – — ‘ ’ “ ” … ‰ ′ ″ ※ ⁂ • ‣ ⁃
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ≡ ¬(¬α ∨ β), ∑_{i=0}^{n} i² ≈ n³⁄3, √2 ≠ 1½, ∂f/∂x → ∞ 𝔸𝓑𝒄 ℵ₀""",
    "digits": """0 00 000 0000 00000 1234567890 3.14159265358979 1e-10 0xDEADBEEF 1,000,000 ١٢٣ ²³¹ ½ Ⅷ ⑤ 12ab34 7th
192.168.0.1:8080 +49 (0)30 123456 2024-12-31T23:59:59.999Z 100% #1 1st 2nd v1.2.3-rc4 ৩৪ 四五六""",
    "urls": """https://example.com/a/b?c=d&e=%20f#g user.name+tag@mail.example.co.uk
ftp://x.y.z/~me C:\\Users\\a\\b.txt""",
    "controls": """<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n
<|endoftext|> <|im_end |> <im_start> <|im_start <||> <s> </s> <unk> [INST] hi [/INST] <<SYS>>
<|eot_id|><|start_header_id|> <|begin_of_text|>x<|end_of_text|><0x0A><0xFF> <fim_prefix>
<repo_name>a/b<file_sep>c ▁ ▁▁a Ġ Ċ Ġthe""",
}

ODDITIES = (
    *("", " ", "  ", "   ", " " * 17, "\t", "\n", "\r\n", "\r", "\n\n\n", " \n", "\n ", " \t \n\t ", "\v", "\f"),
    *("\u00a0", "\u00a0\u00a0x", "\u3000", "a\u3000b", "\u200b", "a\u200bb", "\u200d", "\ufeff", "\ufeffa", "\u2028"),
    *("\u2029", "\u0085", "\u1680", "\u202f", "\u205f", "\u00ad", "\u061c", "\u202ea\u202c", "\ufe0f", "\ufffd"),
    *("\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x80\x9f", "\ue000", "\U000f0000", "\U0010ffff", "\ufffe", "\uffff"),
    *("e\u0301", "\u00e9", "o\u0308\u0323", "o\u0323\u0308", "\u212b", "\u1e9b\u0323", "\ufb01", "a\u0300" * 20),
    *("\u1100\u1161\u11a8", "\uac01", "\u0958", "\u0915\u093c", "\u3099", "か\u3099", "\u0301", " \u0301", "\u0301a"),
    *(
        "a" * 200,
        "ab" * 150,
        " a" * 100,
        "1" * 100,
        "!" * 100,
        "中" * 60,
        "\n" * 50,
        " \n" * 30,
        "🙂" * 30,
    ),
    *("'s", " 's", "'S", "x's's", "'ll'd", "’s", "I’m", "a'b", "' s", "\n's", "1's", "中's", " 'T"),
)


def lines(count: int = 2200) -> list[str]:
    """The seeds, the oddities, and random mixtures of them: `count` different texts."""
    chance = random.Random(20241123)
    whole = [*(line for text in SEEDS.values() for line in text.split("\n")), *SEEDS.values(), *ODDITIES]
    words = [word for line in whole for word in line.split(" ")]
    made = dict.fromkeys([*whole, *(unicodedata.normalize("NFD", line) for line in whole)])
    while len(made) < count:
        made[chance.choice((_mixed, _cut, _shuffled))(chance, whole, words)] = None
    return list(made)


def _mixed(chance: random.Random, whole: list[str], words: list[str]) -> str:
    gaps = (" ", " ", " ", "", "  ", "\n", "\t", ", ", "\u3000", "\r\n", " \n ", "\u00a0")
    return "".join(chance.choice(words) + chance.choice(gaps) for _ in range(chance.randint(1, 12)))


def _cut(chance: random.Random, whole: list[str], words: list[str]) -> str:
    line = chance.choice(whole)
    start = chance.randint(0, len(line))
    return line[start : start + chance.randint(1, 60)] + chance.choice(ODDITIES)


def _shuffled(chance: random.Random, whole: list[str], words: list[str]) -> str:
    letters = [letter for line in chance.sample(whole, 3) for letter in line[:40]]
    chance.shuffle(letters)
    return "".join(letters[: chance.randint(1, 50)])
