"""Makes the fixtures of hub_tokenizer.test.ts anew, with the reference library.

    pip install tokenizers==0.23.3
    python test/modalities/hub/make.py

Trains one small tokenizer of each kind on texts.json and writes NAME.json: the tokenizer's file, and the ids that the
library gives for each text.
"""
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
TEXTS = json.loads((HERE / "texts.json").read_text())
BYTES = pre_tokenizers.ByteLevel.alphabet()

# Llama 3's words.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def byte_level():
    """Byte-level BPE as in GPT-2, behind a normalizer, with added tokens of every kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=BYTES))
    tokenizer.add_special_tokens(["<|end|>", AddedToken("<mask>", lstrip=True), AddedToken("<tool>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("heart", single_word=True), AddedToken("Caf\u00e9"), AddedToken("<|end|>|", normalized=False)])
    return tokenizer


def split_bytes():
    """Byte-level BPE as in Llama 3: words by a pattern of its own, whole words without merges."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=BYTES))
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def prefix_space():
    """Byte-level BPE as in RoBERTa: a space before the first word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=BYTES))
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def byte_fallback():
    """BPE of characters as in Llama 2: unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=special, limit_alphabet=80)
    # Learnt word by word, as SentencePiece does, but the file does not cut words.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = None
    # Bytes are ordinary tokens of the model, not texts to look for.
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(file))


def word_piece():
    """WordPiece as in BERT."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], limit_alphabet=200)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def unigram():
    """Unigram as in T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=["<unk>", "</s>"], unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def characters():
    """BPE of characters whose tokens reach across spaces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], limit_alphabet=90))
    return tokenizer


for make in [byte_level, split_bytes, prefix_space, byte_fallback, characters, word_piece, unigram]:
    tokenizer = make()
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    fixture = {"tokenizer": json.loads(tokenizer.to_str()), "ids": ids}
    (HERE / f"{make.__name__}.json").write_text(json.dumps(fixture, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(make.__name__, tokenizer.get_vocab_size(), sum(map(len, ids)))
