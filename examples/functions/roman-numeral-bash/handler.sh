#!/usr/bin/env bash
#
# roman-numeral: writes a number from 1 to 3999 the Roman way.
#
# Runs in STDIO mode: the watchdog starts one process per call, writes the request {"input":…,"metadata":…} to stdin
# and takes the JSON document on stdout as the output. A non-zero exit is a failed call, and stderr says why.
# A wrong input is no failed call: the answer is {"error":…}.
#
# Needs Bash and coreutils, not jq. Instead the request is cut into JSON tokens and the one token that matters is looked
# up by its place, so that a "number" in the metadata or inside a string is never taken for the input. Keys written with
# escapes ("n\u0075mber") are not recognised, and of a key that comes twice the first one counts.

set -u
export LC_ALL=C # lengths in bytes, and a decimal point in printf, on every machine

readonly REQUEST_BYTES_MAX=16384 # the time to cut a request grows with the square of its length
readonly VALUES=(1000 900 500 400 100 90 50 40 10 9 5 4 1)
readonly NUMERALS=(M CM D CD C XC L XL X IX V IV I)

main() {
  local request at
  request=$(cat)
  ((${#request} <= REQUEST_BYTES_MAX)) || fail "the request is larger than $REQUEST_BYTES_MAX bytes"
  tokenize "$request" || fail 'stdin is not JSON'
  find_member input 0 || fail 'stdin is not a request {"input":…,"metadata":…}'

  if [[ ${tokens[at]} != '{' ]]; then
    answer error 'Input must be a JSON object'
  elif ! find_member number "$at"; then
    answer error 'missing required field: number'
  elif ! is_number "${tokens[at]}"; then
    answer error "field 'number' must be an integer"
  else
    convert "$(truncate_number "${tokens[at]}")"
  fi
}

# convert N: answers with the numeral of the whole number N, which may have any sign and length.
convert() {
  local rest=$1 roman='' i
  # The pattern comes first: Bash arithmetic would wrap a number of 20 digits around to a small one.
  if [[ ! $rest =~ ^[1-9][0-9]{0,3}$ ]] || ((rest > 3999)); then
    answer error "number must be between 1 and 3999, got: $rest"
    return
  fi
  for i in "${!VALUES[@]}"; do
    while ((rest >= VALUES[i])); do
      roman+=${NUMERALS[i]}
      ((rest -= VALUES[i]))
    done
  done
  answer roman "$roman"
}

# truncate_number NUMBER: prints a JSON number without its fraction: 3.9 → 3, -3.9 → -3, 1.5e3 → 1500.
truncate_number() {
  local number=$1
  if [[ $number == *[.eE]* ]]; then
    printf -v number '%.18f' "$number" 2>/dev/null # stderr: "out of range", then number is inf, which is an answer
    number=${number%%.*}
  fi
  [[ $number == -0 ]] && number=0
  printf '%s' "$number"
}

is_number() {
  [[ $1 =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$ ]]
}

# tokenize TEXT: cuts JSON into `tokens`: strings with their quotes, punctuation, bare words. Fails on anything else and
# on brackets that do not pair up.
tokenize() {
  local rest=$1 open=''
  local token='^[[:space:]]*("[^"\\]*(\\.[^"\\]*)*"|[][{}:,]|[^][{}:,"[:space:]]+)'
  tokens=()
  while [[ $rest =~ $token ]]; do
    tokens+=("${BASH_REMATCH[1]}")
    rest=${rest:${#BASH_REMATCH[0]}}
    case ${BASH_REMATCH[1]} in
      '{') open="}$open" ;;
      '[') open="]$open" ;;
      '}' | ']')
        [[ ${open:0:1} == "${BASH_REMATCH[1]}" ]] || return
        open=${open:1}
        ;;
    esac
  done
  [[ -z $open && $rest =~ ^[[:space:]]*$ ]]
}

# find_member KEY OBJECT: sets `at` to the token where the value of KEY begins, in the object that begins at token OBJECT.
find_member() {
  local key="\"$1\"" depth=0 i
  [[ ${tokens[$2]-} == '{' ]] || return
  for ((i = $2 + 1; i < ${#tokens[@]}; i++)); do
    case ${tokens[i]} in
      '{' | '[') ((depth += 1)) ;;
      '}' | ']') ((depth -= 1)) ;;
    esac
    ((depth >= 0)) || return # the object ends here
    # The colon tells a key from a string that happens to say the same.
    if ((depth == 0)) && [[ ${tokens[i]} == "$key" && ${tokens[i + 1]-} == ':' ]]; then
      at=$((i + 2))
      return
    fi
  done
  return 1
}

# answer KEY TEXT: prints the output. TEXT never holds a quote or a backslash, so it needs no escaping.
answer() {
  printf '{"%s":"%s"}\n' "$1" "$2"
}

fail() {
  printf 'roman-numeral: %s\n' "$1" >&2
  exit 1
}

main
