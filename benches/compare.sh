#!/bin/bash
# compare.sh: Weir beside nginx and HAProxy in one run on one machine, and whether it keeps its promises.
#
#   benches/compare.sh [--quick] [--rounds N] [--install] [--weir PATH] [--only "nginx weir"] [--out DIR]
#
#   --quick    one short round (< 60 s) instead of three (< 5 min)
#   --install  apt-get install nginx-light and haproxy when they are missing
#   --weir     this binary; otherwise `cargo build --release` makes it
#   --only     these contenders
#   --out      keep the raw JSON there
#
# How: the gateway alone on CPU 0, mock and load on CPU 1. Contenders run in turn, A B C A B C …, since a
# neighbour's load changes within minutes; every figure is the median over the rounds. CPU is what the
# kernel accounted to the gateway's threads (/proc/PID/task/*/schedstat, ns), so it counts its softirq
# work too, and hardly depends on the neighbours. The peers are plain keep-alive proxies without a log;
# Weir routes, measures, limits and logs every request to a file. 1 KB in, 1 KB out, plain HTTP.
set -euo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."

rounds=3 quick= install= weir= only="nginx haproxy weir" out=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 rounds=1 ;;
    --install) install=1 ;;
    --rounds) rounds=$2; shift ;;
    --weir) weir=$2; shift ;;
    --only) only=$2; shift ;;
    --out) out=$2; shift ;;
    *) sed -n '2,/^$/p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 64 ;;
  esac
  shift
done
if [ $quick ]; then t_warm=0.5 t_latency=1 t_load=2 t_stream=2; else t_warm=1 t_latency=2 t_load=4 t_stream=4; fi

port=${PORT_BASE:-18900}           # mock; the contenders follow
fast=mock-n100-d20000              # 100 chunks, 20 ms apart
frames=bedrock-n100-d20000         # the same in Bedrock's frames, which Weir translates and the others cannot
slow=mock-n1-d2200000              # streams that only stay open
many=1000                          # of those; memory per stream is the slope from 100 to these
gateway_cpu=0 rig_cpu=1

tmp=$(mktemp -d "${TMPDIR:-/tmp}/weir-compare.XXXXXX")
chmod 755 "$tmp"                   # nginx's worker is another user
finish() {
  local running; running=$(jobs -p)
  [ -z "$running" ] || kill $running 2>/dev/null || true
  wait 2>/dev/null || true
  if [ "$out" ]; then mkdir -p "$out" && cp "$tmp"/*.json "$tmp"/*.txt "$out"/ 2>/dev/null || true; fi
  rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
die() { echo "compare.sh: $*" >&2; exit 1; }

# ---- what is needed -------------------------------------------------------------------------------------

[ "$(nproc)" -ge 2 ] || die "two CPUs are needed: one for the gateway, one for mock and load"
missing=
for name in $only; do case $name in
  nginx) command -v nginx >/dev/null || missing+=" nginx-light" ;;
  haproxy) command -v haproxy >/dev/null || missing+=" haproxy" ;;
  weir) ;;
  *) die "no contender is called $name" ;;
esac; done
if [ "$missing" ] && [ $install ]; then
  # shellcheck disable=SC2086
  apt-get install -y -qq $missing >/dev/null || { apt-get update -qq && apt-get install -y -qq $missing >/dev/null; }
elif [ "$missing" ]; then
  die "missing:$missing. Install them (apt-get install -y$missing), or call with --install, or leave them out with --only"
fi
target=${CARGO_TARGET_DIR:-$PWD/target}
CARGO_TARGET_DIR=$target/rig cargo build -q --release --locked --manifest-path benches/rig/Cargo.toml
rig=$target/rig/release
case " $only " in *" weir "*)
  if [ -z "$weir" ]; then cargo build -q --release --locked && weir=$target/release/weir; fi
  [ -x "$weir" ] || die "$weir: no such program" ;;
esac
ulimit -n 8192 2>/dev/null || ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" -ge 4096 ] || die "4096 open files are needed, the limit is $(ulimit -n)"
for offset in 0 1 2 3 4; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$((port + offset))") 2>/dev/null; then
    die "port $((port + offset)) is taken: choose others with PORT_BASE"
  fi
done

# ---- the contenders -------------------------------------------------------------------------------------

declare -A port_of=([nginx]=$((port + 1)) [haproxy]=$((port + 2)) [weir]=$((port + 3)) [direct]=$port)
admin=$((port + 4))

cat >"$tmp/nginx.conf" <<EOF
worker_processes 1;
worker_rlimit_nofile 8192;
daemon off;
pid $tmp/nginx.pid;
error_log $tmp/nginx.log error;
events { worker_connections 4096; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_requests 10000000;
  client_max_body_size 64m;
  client_body_buffer_size 256k;
  client_body_temp_path $tmp/n1; proxy_temp_path $tmp/n2; fastcgi_temp_path $tmp/n3; uwsgi_temp_path $tmp/n4; scgi_temp_path $tmp/n5;
  upstream mock { server 127.0.0.1:$port; keepalive 512; keepalive_requests 10000000; }
  server {
    listen 127.0.0.1:${port_of[nginx]} backlog=4096;
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
EOF
# Without http-no-delay HAProxy holds chunks back for a tenth of a second and more.
cat >"$tmp/haproxy.cfg" <<EOF
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option http-keep-alive
  option http-no-delay
  http-reuse always
frontend front
  bind 127.0.0.1:${port_of[haproxy]} backlog 4096
  default_backend back
backend back
  server mock 127.0.0.1:$port pool-max-conn 2000
EOF
# In a directory of its own: Weir watches the one its file is in, and the access log is written in $tmp.
mkdir "$tmp/etc"
cat >"$tmp/etc/weir.toml" <<EOF
[server]
listen = "127.0.0.1:${port_of[weir]}"
workers = 1
[admin]
listen = "127.0.0.1:$admin"
[auth]
mode = "off"
[models.$fast]
identifier = "custom_openai/$fast"
family = "general"
endpoints = ["http://127.0.0.1:$port/v1"]
[models.$slow]
identifier = "custom_openai/$slow"
family = "general"
endpoints = ["http://127.0.0.1:$port/v1"]
[models.$frames]
identifier = "bedrock/$frames"
region = "eu-central-1"
endpoint = "http://127.0.0.1:$port"
access_key_id = "AKIDEXAMPLE"
secret_access_key = "of-the-mock"
[features]
default = "$fast"
[timeouts]
connect = "2s"
first_byte = "60s"
idle = "60s"
total = "600s"
EOF

# start NAME: runs it on the gateway's CPU and sets $pid
start() {
  case $1 in
    nginx) taskset -c $gateway_cpu nginx -e "$tmp/nginx.log" -c "$tmp/nginx.conf" >/dev/null 2>&1 & ;;
    haproxy) taskset -c $gateway_cpu haproxy -db -f "$tmp/haproxy.cfg" >/dev/null 2>&1 & ;;
    weir) taskset -c $gateway_cpu "$weir" serve --config "$tmp/etc/weir.toml" >"$tmp/access.log" 2>"$tmp/weir.log" & ;;
  esac
  pid=$!
}

stop() {
  kill "$pid" 2>/dev/null || true
  for _ in {1..30}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  rm -f "$tmp/access.log"
}

# ---- measuring ------------------------------------------------------------------------------------------

tree() { echo "$1"; local child; for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do tree "$child"; done; }
# Nanoseconds of CPU of a process and its children.
cpu_of() { for p in $(tree "$1"); do cat "/proc/$p/task/"*/schedstat 2>/dev/null; done | awk '{s += $1} END {printf "%.0f", s}'; }
# Resident KiB of a process and its children.
rss_of() { for p in $(tree "$1"); do cat "/proc/$p/status" 2>/dev/null; done | awk '/^VmRSS/ {s += $2} END {printf "%.0f", s}'; }
load() { taskset -c $rig_cpu "$rig/load" "$@" --to "127.0.0.1:$to"; }
# number KEY: of the flat JSON on standard input
number() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }
note() { echo "$3" >>"$tmp/$1.$2.txt"; }
calc() { awk "BEGIN {printf \"%.3f\", $1}"; }
errors() {
  local n; n=$(number errors <<<"$2")
  note "$1" errors "${n:-1}"
  [ "${n:-1}" = 0 ] || echo "compare.sh: $1: $(sed 's/.*"errors"/"errors"/' <<<"$2" | cut -c1-300)" >&2
}

latency() { # NAME: one connection
  local json; json=$(load closed --connections 1 --seconds $t_latency --model $fast)
  echo "$json" >>"$tmp/$1.json"
  errors "$1" "$json"
  note "$1" c1_p50 "$(number latency_us_p50 <<<"$json")"
  note "$1" c1_p99 "$(number latency_us_p99 <<<"$json")"
}

throughput() { # NAME: 64 connections
  local before after json n seconds
  before=$(cpu_of "$pid")
  json=$(load closed --connections 64 --seconds $t_load --model $fast)
  after=$(cpu_of "$pid")
  echo "$json" >>"$tmp/$1.json"
  errors "$1" "$json"
  n=$(number answered <<<"$json") seconds=$(number seconds <<<"$json")
  note "$1" rate "$(number per_second <<<"$json")"
  note "$1" p50 "$(number latency_us_p50 <<<"$json")"
  note "$1" p99 "$(number latency_us_p99 <<<"$json")"
  note "$1" cpu "$(calc "($after - $before) / 1000 / ($n + 1e-9)")"
  note "$1" busy "$(calc "($after - $before) / 1e7 / $seconds")"
}

steady() { # NAME: as many requests for each: no contender gains by batching under its own load
  local before after json
  before=$(cpu_of "$pid")
  json=$(load open --rate 5000 --connections 64 --seconds $t_latency --model $fast)
  after=$(cpu_of "$pid")
  echo "$json" >>"$tmp/$1.json"
  errors "$1" "$json"
  note "$1" steady_cpu "$(calc "($after - $before) / 1000 / ($(number answered <<<"$json") + 1e-9)")"
}

streams() { # NAME MODEL METRIC: 100 at a time
  local before after json n
  before=$(cpu_of "$pid")
  json=$(load stream --connections 100 --seconds $t_stream --model "$2")
  after=$(cpu_of "$pid")
  echo "$json" >>"$tmp/$1.json"
  errors "$1" "$json"
  n=$(number chunks <<<"$json")
  note "$1" "$3_cpu" "$(calc "($after - $before) / 1000 / ($n + 1e-9)")"
  note "$1" "$3_p50" "$(number chunk_us_p50 <<<"$json")"
  note "$1" "$3_p99" "$(number chunk_us_p99 <<<"$json")"
  note "$1" "$3_coalesced" "$(number coalesced <<<"$json")"
}

memory() { # NAME: streams that only stay open, 100 and then many
  local count rss=()
  for count in 100 $many; do
    load stream --connections "$count" --requests "$count" --seconds 5 --ramp 500 --model $slow >"$tmp/stream" & local loading=$!
    sleep 1.4
    rss+=("$(rss_of "$pid")")
    wait $loading
    errors "$1" "$(cat "$tmp/stream")"
  done
  note "$1" rss_100 "${rss[0]}"
  note "$1" per_stream "$(calc "(${rss[1]} - ${rss[0]}) / ($many - 100)")"
}

cell() { # NAME: everything about one contender, once
  to=${port_of[$1]}
  if [ "$1" = direct ]; then latency direct; return; fi
  start "$1"
  local json; json=$(load ready --seconds 10 --model $fast) || die "$1 did not get ready: $(tail -5 "$tmp/$1.log" 2>/dev/null)"
  note "$1" ready "$(calc "$(number seconds <<<"$json") * 1000")"
  sleep 0.3
  note "$1" rss_idle "$(rss_of "$pid")"
  memory "$1"
  load closed --connections 64 --seconds $t_warm --model $fast >/dev/null
  latency "$1"
  throughput "$1"
  steady "$1"
  streams "$1" $fast chunk
  [ "$1" != weir ] || streams weir $frames frame
  note "$1" rss_end "$(rss_of "$pid")"
  stop
}

taskset -c $rig_cpu "$rig/mock" --listen "127.0.0.1:$port" &
limit=$([ $quick ] && echo 60 || echo $((90 * rounds)))
(sleep "$limit" & trap "kill $! 2>/dev/null; exit" TERM; wait; echo "compare.sh: not done after $limit s" >&2; kill $$) &
to=$port load ready --seconds 5 >/dev/null || die "the mock does not answer"
begun=$SECONDS
for ((round = 1; round <= rounds; round++)); do
  for name in direct $only; do
    [ -t 2 ] && printf '\r%-40s' "round $round of $rounds: $name" >&2
    cell "$name"
  done
done
[ -t 2 ] && printf '\r%-40s\r' '' >&2

# ---- the table ------------------------------------------------------------------------------------------

median() { # NAME METRIC
  [ -f "$tmp/$1.$2.txt" ] || return 0
  sort -n "$tmp/$1.$2.txt" | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'
}
padded() { printf '%s%*s' "$1" $((34 - ${#1})) ''; }
row() { # LABEL METRIC DECIMALS DIVISOR [LIMIT ratio|value [METRIC of nginx]]
  local name line value
  line=$(padded "$1")
  for name in $only; do
    value=$(median "$name" "$2")
    line+=$(awk -v v="$value" -v d="$4" -v p="$3" 'BEGIN {printf "%11s", v == "" ? "-" : sprintf("%.*f", p, v / d)}')
  done
  line+=$(awk -v w="$(median weir "$2")" -v n="$(median nginx "${7:-$2}")" -v d="$4" -v limit="${5:-}" -v kind="${6:-}" 'BEGIN {
    ratio = (w != "" && n + 0 > 0) ? w / n : ""
    printf "%12s", ratio == "" ? "-" : sprintf("%.2f", ratio)
    if (limit == "") exit
    have = kind == "ratio" ? ratio : (w == "" ? "" : w / d)
    printf "   %s (at most %s)", have == "" ? "-" : (have <= limit ? "ok" : "OVER"), kind == "ratio" ? limit "×" : limit
  }')
  echo "$line"
}

table() {
  local name
  padded ''
  for name in $only; do printf '%11s' "$name"; done
  printf '%12s   limit\n' 'weir/nginx'
  row 'req/s, 64 connections' rate 0 1
  row '  core busy, %' busy 0 1
  row '  latency p50, µs' p50 0 1
  row '  latency p99, µs' p99 0 1
  row '  CPU per request, µs' cpu 1 1 1.5 ratio
  row 'CPU per request at 5,000/s, µs' steady_cpu 1 1
  row '1 connection: latency p50, µs' c1_p50 1 1
  row '  latency p99, µs' c1_p99 1 1
  row '100 streams: CPU per chunk, µs' chunk_cpu 1 1 1.25 ratio
  row '  chunk one-way p50, µs' chunk_p50 0 1
  row '  chunk one-way p99, µs' chunk_p99 0 1
  row '  chunks coalesced' chunk_coalesced 0 1
  row '  CPU per Bedrock frame, µs' frame_cpu 1 1 1.6 ratio chunk_cpu
  row '  frame one-way p50, µs' frame_p50 0 1
  row 'RSS idle, MiB' rss_idle 1 1024 8 value
  row '  with 100 streams open, MiB' rss_100 1 1024
  row '  per further open stream, KiB' per_stream 1 1 12 value
  row '  after all of it, MiB' rss_end 1 1024
  row 'start to first answer, ms' ready 1 1 50 value
  row 'failed requests' errors 0 1
}

version() {
  case $1 in
    nginx) nginx -v 2>&1 | sed 's/.*: //; s/^nginx version: //' ;;
    haproxy) haproxy -v | sed -n '1s/ \([0-9]\{4\}\/.*\)$//p' ;;
    weir) "$weir" --version 2>/dev/null || echo "weir ($weir)" ;;
  esac
}
{
  echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs; Linux $(uname -r); load average $(cut -d' ' -f1-3 /proc/loadavg)"
  for name in $only; do printf '%s; ' "$(version "$name")"; done
  echo "medians of $rounds round(s) in $((SECONDS - begun)) s"
  echo "calling the mock directly: p50 $(median direct c1_p50) µs, p99 $(median direct c1_p99) µs"
  echo
  table
} | tee "$tmp/table.txt"
