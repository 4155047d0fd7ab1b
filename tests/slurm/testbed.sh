#!/usr/bin/env bash
# testbed.sh - a real Slurm cluster on one machine, as root, without systemd, for tests.
#
#   testbed.sh start        bring everything up (idempotent: starts only what is not running)
#   testbed.sh stop         cancel jobs, end every process this script started (state is kept)
#   testbed.sh status       one line per daemon and node; exit 0 only when all is healthy
#   testbed.sh env          print the exports a client needs:  eval "$(slurm_testbed.sh env)"
#   testbed.sh exec CMD..   run CMD with that environment (other SLURM_* and SBATCH_* are dropped)
#   testbed.sh wipe         stop, then delete the state directory
# For tests:
#   testbed.sh idle             cancel every job, wait until all nodes are up and idle again
#   testbed.sh node-kill NODE   kill -9 that node's slurmd, job steps and tasks (a crashed node)
#   testbed.sh node-stop NODE   end that node's slurmd only (running tasks go on)
#   testbed.sh node-start NODE  start that node's slurmd again
#   testbed.sh ctld-stop | ctld-start   take slurmctld away / bring it back with its state
#   testbed.sh dbd-stop  | dbd-start    take slurmdbd (sacct) away / bring it back
#
# Environment (all optional; those marked * are fixed when the state directory is first made):
#   SLURM_TESTBED_DIR          state directory, under 60 characters         /tmp/slurm-testbed
#   SLURM_TESTBED_NODES      * number of nodes (slurmd daemons)             2
#   SLURM_TESTBED_CPUS       * declared CPUs per node (may exceed cores)    8
#   SLURM_TESTBED_MEM_MB     * declared memory per node, MB                 16000
#   SLURM_TESTBED_GPUS       * fake GPUs per node                           2
#   SLURM_TESTBED_REQUEUE_S  * seconds a requeued job waits, 5 or more       10
#   SLURM_TESTBED_PORT_BASE  * first of 4 + NODES TCP ports                 first free block from 26800
#   SLURM_TESTBED_PROCTRACK  * cgroup, pgid, linuxproc or auto              auto: cgroup where it works
#   SLURM_TESTBED_EXTRA_CONF * lines added to slurm.conf (the latest value of a key wins)
#   SLURM_TESTBED_WAIT_S       seconds to wait for each daemon              30
#
# Packages (Debian 12):  apt-get install -y --no-install-recommends slurmctld slurmd slurmdbd \
#                            slurm-client munge mariadb-server-core mariadb-client-core iproute2
# Nothing outside SLURM_TESTBED_DIR is written (but Slurm's job cgroups, removed at stop), everything
# listens on 127.0.0.1 or on a unix socket, and no process is ended but those that this script, or a
# daemon it started, started.

set -u -o pipefail
OLD_PATH="${PATH:-}"
export PATH="/usr/sbin:/usr/bin:/sbin:/bin"

SELF=$(readlink -f "$0")
ROOT="${SLURM_TESTBED_DIR:-/tmp/slurm-testbed}"; ROOT=${ROOT%/}
WAIT_S="${SLURM_TESTBED_WAIT_S:-30}"
CLUSTER=testbed
APT="apt-get update && apt-get install -y --no-install-recommends slurmctld slurmd slurmdbd slurm-client munge mariadb-server-core mariadb-client-core iproute2"

die() { echo "testbed: ERROR: $*" >&2; exit 1; }
say() { echo "testbed: $*" >&2; }
case "$ROOT" in /?*) ;; *) die "SLURM_TESTBED_DIR must be an absolute path, not '$ROOT'";; esac
case "$ROOT" in *[!A-Za-z0-9_./+-]*) die "SLURM_TESTBED_DIR may hold only A-Z a-z 0-9 _ . / + -: '$ROOT'";; esac
case "$WAIT_S" in ''|*[!0-9]*) die "SLURM_TESTBED_WAIT_S must be a whole number";; esac

RUN="$ROOT/run" LOG="$ROOT/log" ETC="$ROOT/etc" VAR="$ROOT/var" PIDS="$ROOT/pids"
MUNGE_SOCK="$RUN/munge.sock" DB_SOCK="$RUN/db.sock"
# clients and daemons read this; nothing of /etc/slurm is used
for v in $(compgen -e | grep -E '^(SLURM|SBATCH|SALLOC|SQUEUE|SACCT|SINFO|SCANCEL)_' | grep -v '^SLURM_TESTBED_'); do unset "$v"; done
export SLURM_CONF="$ETC/slurm.conf"

# ------------------------------------------------------------------ processes
# A pid file holds "PID STARTTIME", so a recycled pid is never taken for ours.
stat_field() { # PID N -> field N of /proc/PID/stat, counted from the state (1) on
    local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    s=${s##*\) }; set -- "$2" $s; shift "$1"; echo "$1"
}
pid_of() { # NAME -> prints the pid; succeeds only while that very process lives
    local pid st
    read -r pid st 2>/dev/null <"$PIDS/$1" || return 1
    [ -n "$pid" ] && [ -n "$st" ] && [ "$(stat_field "$pid" 20)" = "$st" ] \
        && [ "$(stat_field "$pid" 1)" != Z ] && echo "$pid"
}
launch() { # NAME CMD...: run CMD (a program that stays in the foreground) detached; keep its pid
    local name=$1 pid i; shift
    rm -f "$PIDS/$name" "$PIDS/$name.new"
    echo "=== $(date '+%F %T') $*" >>"$LOG/$name.out"
    (
        cd / && umask 022
        exec 9>&- </dev/null >>"$LOG/$name.out" 2>&1
        exec env -i PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LC_ALL=C \
            SLURM_CONF="$SLURM_CONF" MYSQL_UNIX_PORT="$DB_SOCK" \
            setsid -f ${UTS:+unshare --uts} bash -c 'echo $$ >"$0"; '"${UTS:+hostname localhost && }"'exec "$@"' "$PIDS/$name.new" "$@"
    )
    for i in $(seq 100); do [ -s "$PIDS/$name.new" ] && break; sleep 0.02; done
    read -r pid 2>/dev/null <"$PIDS/$name.new" || fail_start "$name" "could not be launched"
    echo "$pid $(stat_field "$pid" 20)" >"$PIDS/$name"; rm -f "$PIDS/$name.new"
}
fail_start() { # NAME WHY
    echo "testbed: ERROR: $1 did not come up: $2" >&2
    local f
    for f in "$LOG/check.out" "$LOG/$1.out" "$LOG/$1.log"; do
        [ -s "$f" ] && { echo "--- last lines of $f" >&2; tail -n 12 "$f" >&2; }
    done
    exit 1
}
wait_for() { # NAME CMD...: until CMD succeeds; fails at once when the daemon NAME is gone
    local name=$1 end=$(( SECONDS + WAIT_S )); shift
    until "$@" >"$LOG/check.out" 2>&1; do
        pid_of "$name" >/dev/null || fail_start "$name" "its process ended"
        [ "$SECONDS" -lt "$end" ] || fail_start "$name" "no good answer in ${WAIT_S}s to: $*"
        sleep 0.1
    done
}
end_proc() { # NAME SECONDS: TERM, then KILL after SECONDS
    local pid end=$(( SECONDS + $2 ))
    pid=$(pid_of "$1") || { rm -f "$PIDS/$1"; return 0; }
    kill -TERM "$pid" 2>/dev/null
    while pid_of "$1" >/dev/null; do
        if [ "$SECONDS" -ge "$end" ]; then
            say "$1 (pid $pid) did not end in $2s, using SIGKILL"
            kill -KILL "$pid" 2>/dev/null; sleep 0.3; break
        fi
        sleep 0.05
    done
    rm -f "$PIDS/$1"
}
CG=/sys/fs/cgroup/freezer     # cgroup v1; Slurm makes slurm_NODE in it when ProctrackType is proctrack/cgroup
cgroup_pids() { # NODE
    [ "$PROCTRACK" = cgroup ] && [ -d "$CG/slurm_$1" ] && find "$CG/slurm_$1" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0
}
cgroup_clean() { # NODE: remove what slurmd left in the cgroup tree
    [ "$PROCTRACK" = cgroup ] && [ -d "$CG/slurm_$1" ] || return 0
    find "$CG/slurm_$1" -depth -type d -exec rmdir {} + 2>/dev/null; return 0
}
stepds() { # NODE -> pids of that node's slurmstepd processes (they keep slurmd's log open)
    local p
    for p in /proc/[0-9]*; do
        case "$(readlink "$p/exe" 2>/dev/null)" in */slurmstepd*) ;; *) continue;; esac
        ls -l "$p/fd" 2>/dev/null | grep -E -- "-> $LOG/slurmd\.$1\.(log|out)$" >/dev/null && echo "${p#/proc/}"
    done
}
tree() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$c"; done; echo "$1"; }
kill_steps() { # NODE: SIGKILL that node's job steps with all their tasks
    local s all i
    for i in 1 2 3 4 5; do
        all=$(for s in $(stepds "$1"); do tree "$s"; done; cgroup_pids "$1")
        [ -n "$all" ] || break
        kill -KILL $all 2>/dev/null; sleep 0.1
    done
    return 0
}

# ------------------------------------------------------------------ configuration
need() {
    local missing="" c
    for c in munged mungekey munge unmunge mariadbd mariadb-install-db mariadb slurmdbd slurmctld slurmd \
             sbatch srun sacct sacctmgr scontrol squeue sinfo scancel setsid unshare flock ss ip; do
        command -v "$c" >/dev/null || missing="$missing $c"
    done
    compgen -G '/usr/lib/*/slurm*/accounting_storage_mysql.so' >/dev/null || missing="$missing accounting_storage_mysql.so"
    [ -z "$missing" ] || die "not installed:$missing"$'\n'"  try: $APT"
}
short_host() { local h; h=$(cat /proc/sys/kernel/hostname); echo "${h%%.*}"; }
# With NoInAddrAny, daemons and srun bind to what their host name resolves to. Where that is not 127.0.0.1
# (127.0.1.1 will not do: srun is called back at 127.0.0.1), they run in a UTS namespace of their own,
# under the name localhost.
is_loopback() { [ "$(getent ahostsv4 "$1" 2>/dev/null | awk 'NR == 1 { print $1 }')" = 127.0.0.1 ]; }
port_busy() { [ -n "$(ss -Htln "sport = :$1" 2>/dev/null)" ]; }
nodes() { local i; for i in $(seq "$NODES"); do echo "$PREFIX$i"; done; }
node_port() { echo $((BASE + 3 + ${1#"$PREFIX"})); }
cgroup_works() { # cgroup v1 freezer, writable
    local d="$CG/testbed_probe.$$"
    [ -f "$CG/cgroup.procs" ] && mkdir "$d" 2>/dev/null && [ -f "$d/freezer.state" ] && rmdir "$d"
}
# grep reads to the end everywhere: with -q it leaves early, and under pipefail the writer may fail by SIGPIPE
known_node() { nodes | grep -x -- "$1" >/dev/null || die "no node '$1'; nodes: $(nodes | tr '\n' ' ')"; }
load() { [ -f "$ROOT/params" ] || die "no testbed in $ROOT: run '$SELF start' first"; . "$ROOT/params"; }

configure() {
    if [ -f "$ROOT/params" ]; then
        . "$ROOT/params"
        [ "$REALHOST" = "$(short_host)" ] || die "$ROOT was made on host '$REALHOST', this is '$(short_host)': run '$SELF wipe' first"
        return
    fi
    NODES=${SLURM_TESTBED_NODES:-2} CPUS=${SLURM_TESTBED_CPUS:-8} MEM=${SLURM_TESTBED_MEM_MB:-16000}
    GPUS=${SLURM_TESTBED_GPUS:-2} BASE=${SLURM_TESTBED_PORT_BASE:-}
    # Slurm resolves addresses, even 127.0.0.1, with AI_ADDRCONFIG, which wants one address that is not loopback's
    ip -4 -o addr show scope global 2>/dev/null | grep . >/dev/null || die "no network address but 127.0.0.1, so Slurm can resolve no name at all; in a network namespace of yours: ip addr add 192.0.2.1/32 dev lo"
    REALHOST=$(short_host) HOST=$(short_host) UTS=""
    if ! is_loopback "$(cat /proc/sys/kernel/hostname)"; then
        HOST=localhost UTS=1
        unshare --uts true 2>/dev/null || die "host name '$REALHOST' does not resolve to 127.0.0.1 and unshare --uts is not allowed here; add '127.0.0.1 $REALHOST' to /etc/hosts"
        say "host name '$REALHOST' does not resolve to 127.0.0.1: daemons and jobs will see the host name 'localhost'"
    fi
    local v b p i busy REQ=${SLURM_TESTBED_REQUEUE_S:-10}
    for v in "$NODES" "$CPUS" "$MEM" "$GPUS" "$REQ" "${BASE:-1}"; do
        case "$v" in ''|*[!0-9]*) die "SLURM_TESTBED_* must be whole numbers, got '$v'";; esac
    done
    [ "$NODES" -ge 1 ] && [ "$CPUS" -ge 1 ] || die "at least one node and one CPU are needed"
    [ "$REQ" -ge 5 ] || die "SLURM_TESTBED_REQUEUE_S must be 5 or more"
    if [ -z "$BASE" ]; then
        for b in $(seq 26800 20 31000); do
            busy=; for p in $(seq "$b" $((b + 3 + NODES))); do port_busy "$p" && { busy=1; break; }; done
            [ -n "$busy" ] || { BASE=$b; break; }
        done
        [ -n "$BASE" ] || die "no free block of ports in 26800-31000; set SLURM_TESTBED_PORT_BASE"
    fi
    # job cgroups are named after nodes, so node names must differ between testbeds alive at the same time
    PREFIX=n; [ "$BASE" -eq 26800 ] || PREFIX="p${BASE}n"
    PROCTRACK=${SLURM_TESTBED_PROCTRACK:-auto}
    case "$PROCTRACK" in
        auto) if cgroup_works; then PROCTRACK=cgroup; else PROCTRACK=pgid; fi;;
        cgroup|pgid|linuxproc) ;;
        *) die "SLURM_TESTBED_PROCTRACK must be auto, cgroup, pgid or linuxproc, not '$PROCTRACK'";;
    esac
    : >"$ROOT/.aceslm_testbed"
    mkdir -p "$RUN" "$LOG" "$ETC" "$VAR/state" "$VAR/dev" "$PIDS" || die "cannot write to $ROOT"
    for i in $(nodes); do mkdir -p "$VAR/spool.$i"; done
    chmod 0755 "$ROOT" "$RUN" "$LOG" "$ETC" "$VAR" "$PIDS"
    ( umask 077; mungekey --create --force --keyfile="$ETC/munge.key" ) || die "mungekey failed"

    local gres="" list
    [ "$GPUS" -eq 0 ] || gres=" Gres=gpu:$GPUS"
    cat >"$ETC/slurm.conf" <<CONF
ClusterName=$CLUSTER
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$BASE
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again (Slurm's own: 120)
AuthInfo=socket=$MUNGE_SOCK,cred_expire=$REQ
CredType=cred/munge
# bind to 127.0.0.1, not to every address
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MailProg=/bin/true

StateSaveLocation=$VAR/state
SlurmdSpoolDir=$VAR/spool.%n
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info

# no CPU binding and no cgroup limits: works in containers and small VMs, CPUs may be over-declared.
# proctrack/cgroup ends every process of a job; pgid misses those that called setsid; linuxproc those
# whose parent is gone
ProctrackType=proctrack/$PROCTRACK
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((BASE + 1))
# slurmdbd's clients take munge's socket from here, not from AuthInfo
AccountingStoragePass=$MUNGE_SOCK
$([ "$GPUS" -eq 0 ] || echo "AccountingStorageTRES=gres/gpu")

# short clocks, so that a test sees an event within seconds
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=5
KillWait=5
InactiveLimit=0
OverTimeLimit=0
MinJobAge=300
BatchStartTimeout=10
ReturnToService=2
JobRequeue=1

SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
SlurmdParameters=config_overrides
$([ "$GPUS" -eq 0 ] || echo "GresTypes=gpu")
MaxArraySize=1001
MaxJobCount=5000
# submitit finds results by job id: ids must not start again from 1 after a wipe
FirstJobId=$(( $(date +%s) % 6000000 * 10 + 1 ))
PriorityType=priority/basic

# jobs of "high" send jobs of "main" and "short" back to the queue. preempt_send_user_signal: that of
# sbatch --signal (submitit: USR2) comes at preemption, GraceTime seconds before the kill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal

NodeName=DEFAULT CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM State=UNKNOWN$gres
$(for i in $(nodes); do echo "NodeName=$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$(node_port "$i")"; done)

PartitionName=DEFAULT Nodes=ALL State=UP DefaultTime=10 MaxTime=1-00:00:00
PartitionName=main  Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=short MaxTime=00:02:00 DefaultTime=00:01:00 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high  PriorityTier=10 PreemptMode=OFF
${SLURM_TESTBED_EXTRA_CONF:-}
CONF
    # links to /dev/null stand for the GPUs: Slurm wants device files, counts them, and hands out indices
    : >"$ETC/gres.conf"; : >"$ETC/cgroup.conf"
    if [ "$GPUS" -gt 0 ]; then
        for i in $(seq 0 $((GPUS - 1))); do ln -sf /dev/null "$VAR/dev/fakegpu$i"; done
        list="$VAR/dev/fakegpu0"; [ "$GPUS" -eq 1 ] || list="$VAR/dev/fakegpu[0-$((GPUS - 1))]"
        { echo "AutoDetect=off"; for i in $(nodes); do echo "NodeName=$i Name=gpu File=$list"; done; } >"$ETC/gres.conf"
    fi
    ( umask 077; cat >"$ETC/slurmdbd.conf" <<CONF
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((BASE + 1))
AuthType=auth/munge
AuthInfo=socket=$MUNGE_SOCK
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
PidFile=$RUN/slurmdbd.pid
LogFile=$LOG/slurmdbd.log
DebugLevel=info
MessageTimeout=5
CommunicationParameters=NoInAddrAny
CONF
    )
    echo "NODES=$NODES CPUS=$CPUS GPUS=$GPUS BASE=$BASE PREFIX=$PREFIX PROCTRACK=$PROCTRACK HOST=$HOST REALHOST=$REALHOST UTS=$UTS" >"$ROOT/params"
}

# ------------------------------------------------------------------ health
ok_munge() { munge -n -S "$MUNGE_SOCK" | unmunge -S "$MUNGE_SOCK" >/dev/null; }
ok_db() { mariadb --no-defaults --socket="$DB_SOCK" --user=root -e 'select 1'; }
ok_dbd() { timeout 10 sacctmgr -nP list cluster; }
ok_ctld() { local o; o=$(timeout 10 scontrol ping 2>&1); echo "$o"; [[ $o == *' is UP'* ]]; }
node_state() { timeout 10 scontrol -o show node "$1" 2>/dev/null | grep -o ' State=[^ ]*' | cut -d= -f2 || echo '?'; }
ok_node() {
    local s; s=$(node_state "$1"); echo "node $1: $s"
    case "$s" in *NOT_RESPONDING*|*DOWN*|*DRAIN*|*FAIL*|*UNKNOWN*|'?'|'') return 1;; IDLE*|MIXED*|ALLOCATED*) return 0;; *) return 1;; esac
}

# ------------------------------------------------------------------ daemons
up() { # NAME CHECK...: true when NAME already runs; a check that fails is waited for
    local name=$1; shift
    pid_of "$name" >/dev/null || return 1
    wait_for "$name" "$@"
}
start_munge() {
    up munged ok_munge && return
    rm -f "$MUNGE_SOCK" "$MUNGE_SOCK.lock"
    launch munged munged --foreground --force --key-file="$ETC/munge.key" --socket="$MUNGE_SOCK" \
        --pid-file="$RUN/munged.pid" --log-file="$LOG/munged.log" --seed-file="$VAR/munged.seed"
    wait_for munged ok_munge
}
start_db() {
    up mariadbd ok_db && return
    if [ ! -f "$VAR/db/.ready" ]; then
        rm -rf "$VAR/db"; mkdir -p "$VAR/db"
        mariadb-install-db --no-defaults --user=root --datadir="$VAR/db" --skip-test-db --skip-name-resolve \
            --auth-root-authentication-method=socket --auth-root-socket-user=root --innodb-log-file-size=16M \
            >"$LOG/mariadb-install.log" 2>&1 || die "mariadb-install-db failed: $(tail -n 5 "$LOG/mariadb-install.log")"
        : >"$VAR/db/.ready"
    fi
    launch mariadbd mariadbd --no-defaults --user=root --datadir="$VAR/db" --socket="$DB_SOCK" \
        --pid-file="$RUN/mariadbd.pid" --log-error="$LOG/mariadbd.log" --tmpdir="$VAR" --skip-networking \
        --skip-name-resolve --performance-schema=0 --max-connections=40 --innodb-buffer-pool-size=64M \
        --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0
    wait_for mariadbd ok_db
}
start_dbd() {
    up slurmdbd ok_dbd && return
    port_busy $((BASE + 1)) && die "port $((BASE + 1)) (slurmdbd) is taken by another process: $(ss -Htlnp "sport = :$((BASE + 1))")"
    launch slurmdbd slurmdbd -D
    wait_for slurmdbd ok_dbd
    if ! sacctmgr -nP list cluster format=cluster | grep -x "$CLUSTER" >/dev/null; then
        sacctmgr -i add cluster "$CLUSTER" >"$LOG/sacctmgr.out" 2>&1 || die "sacctmgr add cluster failed: $(cat "$LOG/sacctmgr.out")"
    fi
}
start_ctld() {
    up slurmctld ok_ctld && return
    port_busy "$BASE" && die "port $BASE (slurmctld) is taken by another process: $(ss -Htlnp "sport = :$BASE")"
    launch slurmctld slurmctld -D
    wait_for slurmctld ok_ctld
}
start_node() { # NODE: launch without waiting
    pid_of "slurmd.$1" >/dev/null && return
    local port; port=$(node_port "$1")
    port_busy "$port" && die "port $port (slurmd of $1) is taken by another process: $(ss -Htlnp "sport = :$port")"
    launch "slurmd.$1" slurmd -D -N "$1"
}
wait_node() { # a node that a test drained is put back
    case "$(node_state "$1")" in *DRAIN*) scontrol update nodename="$1" state=resume >/dev/null 2>&1;; esac
    wait_for "slurmd.$1" ok_node "$1"
}

since() { local us=$(( ${EPOCHREALTIME/./} - ${1/./} )); printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10)); }
lap() { took="$took $1 $(since "$last")s"; last=$EPOCHREALTIME; }
cmd_start() {
    local n t0=$EPOCHREALTIME last=$EPOCHREALTIME took=""
    need
    [ ${#ROOT} -lt 60 ] || die "SLURM_TESTBED_DIR is too long for unix sockets (${#ROOT} characters, at most 59): $ROOT"
    mkdir -p "$ROOT" || die "cannot make $ROOT"
    [ -f "$ROOT/.aceslm_testbed" ] || [ -z "$(ls -A "$ROOT" | grep -vx lock)" ] || die "$ROOT is not empty and is no testbed of this script"
    lock; configure
    start_munge; lap munged
    start_db; lap mariadbd
    start_dbd; lap slurmdbd
    start_ctld; lap slurmctld
    for n in $(nodes); do start_node "$n"; done
    for n in $(nodes); do wait_node "$n"; done; lap nodes
    say "ready after $(since "$t0")s ($took ): $NODES nodes x $CPUS CPUs, $GPUS fake GPUs each, proctrack/$PROCTRACK; SLURM_CONF=$SLURM_CONF"
}
cancel_all() { # SECONDS: cancel every job, wait for the queue to empty
    local end=$(( SECONDS + $1 )) u
    ok_ctld >/dev/null || return 1
    timeout 10 squeue -h -o '%u' 2>/dev/null | sort -u | while read -r u; do timeout 10 scancel -u "$u"; done
    until [ -z "$(timeout 10 squeue -h -t all -o '%t' 2>/dev/null | grep -vxE 'CA|CD|F|TO|NF|PR|BF|DL|OOM|SE|RV')" ]; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}
cmd_stop() {
    [ -f "$ROOT/params" ] || { say "nothing to stop in $ROOT"; return 0; }
    lock; load
    local n
    if pid_of slurmctld >/dev/null; then cancel_all 15 || say "jobs still running after 15s, their processes will be killed"; fi
    for n in $(nodes); do end_proc "slurmd.$n" 10; done
    for n in $(nodes); do kill_steps "$n"; cgroup_clean "$n"; done
    end_proc slurmctld 20; end_proc slurmdbd 20; end_proc mariadbd 30; end_proc munged 10
    say "stopped"
}
line() { printf '%-10s %-5s %-8s %s\n' "$1" "$2" "$3" "$4"; }
cmd_status() {
    [ -f "$ROOT/params" ] || { echo "no testbed in $ROOT"; return 3; }
    load
    local rc=0 d n pid chk
    for d in munged:ok_munge mariadbd:ok_db slurmdbd:ok_dbd slurmctld:ok_ctld; do
        chk=${d#*:} d=${d%%:*}
        if ! pid=$(pid_of "$d"); then line "$d" down - ""; rc=1
        elif "$chk" >/dev/null 2>&1; then line "$d" ok "$pid" ""
        else line "$d" SICK "$pid" "process runs but does not answer; see $LOG/$d.log"; rc=1; fi
    done
    for n in $(nodes); do
        if ! pid=$(pid_of "slurmd.$n"); then line "slurmd.$n" down - "node $(node_state "$n")"; rc=1
        elif ok_node "$n" >/dev/null; then line "slurmd.$n" ok "$pid" "node $(node_state "$n")"
        else line "slurmd.$n" SICK "$pid" "node $(node_state "$n")"; rc=1; fi
    done
    return $rc
}
cmd_env() {
    load
    echo "export SLURM_CONF='$SLURM_CONF'"
    echo "export SLURM_TESTBED_DIR='$ROOT'"
}
lock() { exec 9>"$ROOT/lock" && flock -w 180 9 || die "another start or stop holds $ROOT/lock"; }

case "${1:-}" in start|stop|restart|status|wipe|idle|node-*|ctld-*|dbd-*) [ "$(id -u)" = 0 ] || die "must run as root";; esac
case "${1:-}" in
    start) cmd_start;;
    stop) cmd_stop;;
    status) cmd_status;;
    restart) cmd_stop; exec "$SELF" start;;
    env) cmd_env;;
    exec) load; shift; [ $# -gt 0 ] || die "exec needs a command"
        export SLURM_TESTBED_DIR="$ROOT" PATH="${OLD_PATH:+$OLD_PATH:}$PATH"
        # srun and salloc listen too, so they need the same host name
        if [ -n "$UTS" ]; then exec unshare --uts bash -c 'hostname localhost; exec "$@"' - "$@"; fi
        exec "$@";;
    wipe)
        [ -e "$ROOT" ] || exit 0
        [ -f "$ROOT/.aceslm_testbed" ] || die "$ROOT is no testbed of this script, not deleting it"
        cmd_stop; rm -rf -- "$ROOT";;
    idle)
        load; lock; cancel_all "$WAIT_S" || die "the queue is not empty: $(squeue -h 2>&1 | head -n 5)"
        for n in $(nodes); do start_node "$n"; done; for n in $(nodes); do wait_node "$n"; done;;
    node-kill)
        load; n=${2:-}; known_node "$n"; pid=$(pid_of "slurmd.$n") && kill -KILL "$pid"
        kill_steps "$n"; rm -f "$PIDS/slurmd.$n";;
    node-stop) load; known_node "${2:-}"; end_proc "slurmd.$2" 10;;
    node-start) load; lock; known_node "${2:-}"; start_node "$2"; wait_node "$2";;
    ctld-stop) load; end_proc slurmctld 20;;
    ctld-start) load; lock; start_ctld;;
    dbd-stop) load; end_proc slurmdbd 20;;
    dbd-start) load; lock; start_dbd;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$SELF" >&2; exit 2;;
esac
