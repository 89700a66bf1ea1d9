"""word-stats: counts the words of a text.

Runs in STDIO mode: the watchdog starts one process per call, writes the request `{"input":…,"metadata":…}` to stdin
and takes the JSON document on stdout as the output. A non-zero exit is a failed call, and stderr says why.

A word is a run of letters, digits or underscores (`\\w+`) of any script, in lower case; words that are equally frequent
keep the order in which they first appear. A wrong input is no failed call: the answer is `{"error":…}`.
"""

import json
import re
import sys
from collections import Counter

TOP_WORDS_DEFAULT = 10


def handle(value):
    """`{"text": string, "topN": int}` or a plain string → counts, or `{"error": string}`."""
    arguments = value if isinstance(value, dict) else {"text": value}

    text = arguments.get("text")
    if not isinstance(text, str):
        return {"error": "Field 'text' is required"}
    if not text.strip():
        return {"error": "Text is empty"}

    top_words = arguments.get("topN")
    if top_words is None:
        top_words = TOP_WORDS_DEFAULT
    # `true` is an int in Python, but not in JSON.
    if not isinstance(top_words, int) or isinstance(top_words, bool) or top_words < 1:
        return {"error": "Field 'topN' must be a positive integer"}

    words = re.findall(r"\w+", text.lower())
    if not words:
        return {"error": "No words found"}

    counts = Counter(words)
    return {
        "wordCount": len(words),
        "uniqueWords": len(counts),
        "topWords": [{"word": word, "count": count} for word, count in counts.most_common(top_words)],
        "averageWordLength": round(sum(map(len, words)) / len(words), 2),
    }


def main():
    try:
        # Bytes, not text: JSON is UTF-8 whatever the locale of the machine says.
        request = json.loads(sys.stdin.buffer.read())
        value = request["input"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        sys.exit(f'word-stats: stdin is not a request {{"input":…,"metadata":…}}: {error!r}')
    json.dump(handle(value), sys.stdout)


if __name__ == "__main__":
    main()
