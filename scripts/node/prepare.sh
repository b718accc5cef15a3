# Runs on a node: functions of scripts/node/guard.sh, before which it is sent.  They make a copied virtualenv fit for
# use in its new place.  Assignments come before this text:
#
#   CLOUDPLAN_CHDIR       the name that the copy has in messages
#   CLOUDPLAN_ROOT        where the project is on the controller
#   CLOUDPLAN_OUTSIDE     directories on the controller that the copy has beside the project's files, under their own names; one a line
#   CLOUDPLAN_LINKS       not empty: symbolic links may name places on the controller that the copy has
#   CLOUDPLAN_PROGRAMS    links in the virtualenv's bin that the sync has left to us: a line with the name, one with the target
#   CLOUDPLAN_VENV        the virtualenv's copy, relative to CLOUDPLAN_CHDIR; empty: there is none
#   CLOUDPLAN_VENV_FROM   where the virtualenv is on the controller
#   CLOUDPLAN_PYTHON      its interpreter: a name in its bin
#   CLOUDPLAN_PREPARE     a function to be called at last, in the copy: of the engine's snippet, which comes before this text; or empty
#
# The guard's guard_place is the copy's physical name, by which it is found.
#
# The sync has just made everything as it is on the controller, and undoes at the next time what is done here.
# Changing paths takes a moment and is done each time.  pip takes seconds: what it has changed is kept in
# CHDIR/.cloudplan-develop, which the sync passes over, and is put in place again as long as nothing has
# changed that pip would look at:
#
#   digest    two lines: what prepare_digest said before pip and after it; written last
#   files/    what pip has made or changed, in its place below CHDIR
#   removed   names of what pip has removed
#   pip.log   what it said
#
# shellcheck shell=sh

prepare_newline='
'

# Lines in which one path stands for another.  A path that only begins or ends like it is another path.  MODE whole:
# the whole file.  MODE head: the lines up to the one in which a script names its interpreter, in a "#!" or among the
# first three in an "exec", and before them their number in the file.  A "#!" that the kernel would not take (a
# blank, too long) becomes what pip writes in such a place.
# shellcheck disable=SC2016 # awk's own
prepare_awk='
function moved(line, done, at, before, after) {
    done = ""
    while ((at = index(line, from)) > 0) {
        before = at > 1 ? substr(line, at - 1, 1) : substr(done, length(done), 1)
        after = substr(line, at + length(from), 1)
        done = done substr(line, 1, at - 1)
        done = done (before ~ /[A-Za-z0-9._\/~@%+-]/ || after ~ /[A-Za-z0-9._~@%+-]/ ? from : to)
        line = substr(line, at + length(from))
    }
    return done line
}
function interpreter(line, rest, blank) {
    if (substr(line, 1, length(to) + 2) != "#!" to || line !~ /\/bin\/py/)
        return line
    if (length(line) < 127 && to !~ /[ \t]/)
        return line
    rest = substr(line, length(to) + 3)
    if (!(blank = index(rest, " ")))
        blank = length(rest) + 1
    return "#!/bin/sh\n'\'''\'''\''exec'\'' \"" to substr(rest, 1, blank - 1) "\"" substr(rest, blank) \
        " \"$0\" \"$@\"\n'\'' '\'''\'''\''"
}
BEGIN { from = ENVIRON["PREPARE_FROM"]; to = ENVIRON["PREPARE_TO"] }
mode == "whole" { print moved($0); next }
NR == 1 && substr($0, 1, 2) != "#!" { exit }
{
    line = NR == 1 || /exec/ ? moved($0) : $0
    text = text "\n" (NR == 1 && line != $0 ? interpreter(line) : line)
    if (line != $0) print NR text
    if (line != $0 || NR == 3) exit
}'

# For a subshell, which it ends: there are many scripts, and each process counts.
prepare_moved() { # MODE FILE
    exec env LC_ALL=C "PREPARE_FROM=$prepare_from" "PREPARE_TO=$prepare_to" awk -v mode="$1" "$prepare_awk" "$2"
}

# Names of the regular files among FILE... that hold prepare_from, one a line.
prepare_holding() { # FILE...
    prepare_files=$#
    for prepare_file; do
        [ ! -f "$prepare_file" ] || [ -L "$prepare_file" ] || set -- "$@" "$prepare_file"
    done
    shift "$prepare_files"
    [ $# = 0 ] || LC_ALL=C grep -lF -e "$prepare_from" "$@"
}

# One file's new text into a copy of it, which has its mode.
prepare_rewrite() { # FILE MODE COPY
    if [ "$2" = whole ]; then
        (prepare_moved whole "$1") >"$3"
        return
    fi
    prepare_text=$(prepare_moved head "$1") || return 1
    if [ -z "$prepare_text" ]; then
        rm -f "$3"
    else
        # What follows may be anything, as in a zip file that begins like a script: it is copied byte by byte.
        {
            printf '%s\n' "${prepare_text#*"$prepare_newline"}" &&
                tail -n "+$((${prepare_text%%"$prepare_newline"*} + 1))" "$1"
        } >"$3"
    fi
}

# prepare_from becomes prepare_to in those of FILE... that hold it.  They are replaced as wholes: a program that is
# started at this moment finds the old one or the new one.
prepare_replace() { # MODE DIR FILE...; all in DIR; an "activate" is changed as a whole
    prepare_rule=$1
    prepare_dir=$2
    shift 2
    case $prepare_from in "$prepare_to" | '' | /) return 0 ;; esac
    prepare_found=$(prepare_holding "$@")
    [ -n "$prepare_found" ] && prepare_inside "$prepare_dir" || return 0
    prepare_temp=$prepare_dir/cloudplan-new
    rm -rf "$prepare_temp"
    set -f
    IFS=$prepare_newline
    # shellcheck disable=SC2086 # one name a line
    set -- $prepare_found
    unset IFS
    set +f
    mkdir "$prepare_temp" && cp -p "$@" "$prepare_temp/" || return 1
    for prepare_file; do
        prepare_mode=$prepare_rule
        case ${prepare_file##*/} in activate*) prepare_mode='whole' ;; esac
        prepare_rewrite "$prepare_file" "$prepare_mode" "$prepare_temp/${prepare_file##*/}" || return 1
    done
    set -- "$prepare_temp"/*
    [ ! -e "$1" ] || mv -f "$@" "$prepare_dir/" || return 1
    rmdir "$prepare_temp"
}

# The path that the virtualenv itself knows: another one where it was made by way of a symbolic link.
prepare_known() {
    sed -n "s|^[[:blank:]]*\(export \)\{0,1\}VIRTUAL_ENV=['\"]\{0,1\}\(/[^'\"]*\).*|\2|p" \
        "$prepare_venv/bin/activate" | sed 1q
}

# Modules that a *.pth imports when the interpreter starts: redirectors of editable installs.
prepare_modules() { # SITE
    sed -n 's/^import[[:blank:]]\{1,\}\([A-Za-z0-9_]\{1,\}\).*/\1/p' "$1"/*.pth 2>/dev/null
}

# Scripts that setuptools has made to run one of the project's.
prepare_dev_scripts() {
    for prepare_file in "$prepare_venv"/bin/*; do
        [ ! -f "$prepare_file" ] || [ -L "$prepare_file" ] || set -- "$@" "$prepare_file"
    done
    [ $# = 0 ] || LC_ALL=C grep -lF -e '# EASY-INSTALL-DEV-SCRIPT: ' "$@"
}

# What was installed with "pip install -e" names its place here, which has another one in the copy.
prepare_installed() { # FROM TO
    prepare_from=$1
    prepare_to=$2
    for prepare_site in "$prepare_venv"/lib/*/site-packages; do
        set -- "$prepare_site"/*.pth "$prepare_site"/*.egg-link "$prepare_site"/__editable__*
        IFS=$prepare_newline
        for prepare_module in $(prepare_modules "$prepare_site"); do
            set -- "$@" "$prepare_site/$prepare_module.py"
        done
        unset IFS
        prepare_replace whole "$prepare_site" "$@" || return 1
    done
    prepare_found=$(prepare_dev_scripts)
    set -f
    IFS=$prepare_newline
    # shellcheck disable=SC2086 # one name a line
    set -- $prepare_found
    unset IFS
    set +f
    [ $# = 0 ] || prepare_replace whole "$prepare_venv/bin" "$@"
}

# A FUNCTION for each place on the controller that the copy has, with its place there.
prepare_each_place() { # FUNCTION
    "$1" "$CLOUDPLAN_ROOT" "$prepare_top" || return 1
    set -f
    IFS=$prepare_newline
    for prepare_outside in $CLOUDPLAN_OUTSIDE; do
        unset IFS
        set +f
        "$1" "$prepare_outside" "$prepare_top/${prepare_outside##*/}" || return 1
    done
    unset IFS
    set +f
}

# The interpreter is the node's own, and not a copy of it.
prepare_programs() {
    set -f
    IFS=$prepare_newline
    # shellcheck disable=SC2086 # one a line
    set -- $CLOUDPLAN_PROGRAMS
    unset IFS
    set +f
    while [ $# -ge 2 ]; do
        prepare_file=$prepare_venv/bin/$1
        if [ ! -L "$prepare_file" ] || [ "$(readlink "$prepare_file")" != "$2" ]; then
            rm -f "$prepare_file" && ln -s "$2" "$prepare_file" || return 1
        fi
        shift 2
    done
}

# Scripts name their interpreter, and what was installed with "pip install -e" its place, by absolute paths.
prepare_paths() {
    prepare_to=$prepare_place
    for prepare_from in "$CLOUDPLAN_VENV_FROM" "$(prepare_known)"; do
        prepare_replace head "$prepare_venv/bin" "$prepare_venv"/bin/* || return 1
    done
    prepare_each_place prepare_installed
}

# Links that name a place of the project by its path on the controller, as setuptools' strict editable mode makes them.
# shellcheck disable=SC2016 # the inner shell's own
prepare_links_below() { # FROM TO
    find . -path ./.cloudplan-develop -prune -o -type l -exec sh -c '
        from=$1 to=$2
        shift 2
        for link; do
            target=$(readlink "$link") || continue
            case $target in
            "$from") new=$to ;;
            "$from"/*) new=$to${target#"$from"} ;;
            *) continue ;;
            esac
            rm -f "$link" && ln -s "$new" "$link" || exit 1
        done' sh "$1" "$2" {} +
}

# What can change what pip makes of the eggs, and what it has made of them.
prepare_digest() { # EGG...
    {
        printf '%s\n' 'cloudplan-develop 1' "$prepare_top" "$prepare_venv" "$CLOUDPLAN_PYTHON" "$@"
        cat "$prepare_venv/pyvenv.cfg"
        for prepare_site in "$prepare_venv"/lib/*/site-packages; do
            printf '%s\n' "$prepare_site"/*.dist-info "$prepare_site"/*.egg-info
            cksum "$prepare_site"/*.pth "$prepare_site"/*.egg-link "$prepare_site"/__editable__*
        done
        for prepare_egg; do
            printf '%s\n' "$prepare_egg"/*.py "$prepare_egg"/src/*.py
            # Packages; extensions that were built.
            find "$prepare_egg" \( -path "$prepare_venv" -o -name __pycache__ -o \
                -name '.?*' ! -path "$prepare_egg" \) -prune -o \( -type d -o -name '*.so' \) -print | LC_ALL=C sort
            # What says how it is built and which version it is.
            find "$prepare_egg" -maxdepth 3 \( -path "$prepare_venv" -o -path ./.cloudplan-develop \) -prune -o \
                -type f \( -name setup.py -o -name setup.cfg -o -name pyproject.toml -o -name MANIFEST.in -o \
                -name __init__.py -o -name __about__.py -o -name '_version*.py' -o -name 'version*' -o \
                -name 'VERSION*' -o -name 'requirements*.txt' -o -name PKG-INFO -o -name entry_points.txt \) \
                -exec cksum {} + | LC_ALL=C sort
            # What extensions are built from.
            find "$prepare_egg" \( -path "$prepare_venv" -o -path ./.cloudplan-develop \) -prune -o \
                -type f \( -name '*.[chmS]' -o -name '*.cc' -o -name '*.cpp' -o -name '*.cxx' -o -name '*.h[hp]*' -o \
                -name '*.py[xi]' -o -name '*.px[di]' -o -name '*.f' -o -name '*.f90' -o -name '*.rs' -o \
                -name '*.i' -o -name 'Cargo.*' -o -name CMakeLists.txt -o -name meson.build \) \
                -exec cksum {} + | LC_ALL=C sort
        done
    } 2>/dev/null | cksum
}

# Everything in the virtualenv and the eggs: "SUM SIZE NAME", for what is no file "- - NAME".
prepare_snapshot() { # EGG...
    {
        find "$prepare_venv" "$@" \( -path ./.cloudplan-develop -o -name __pycache__ \) -prune -o \
            -type f -exec cksum {} +
        find "$prepare_venv" "$@" \( -path ./.cloudplan-develop -o -name __pycache__ \) -prune -o \
            ! -type f -print | sed 's/^/- - /'
    } | LC_ALL=C sort -u
}

# What pip has changed between the snapshots.  Without a digest it does not count.
prepare_save() {
    # shellcheck disable=SC2016
    awk 'NR == FNR { seen[$0]; next } !($0 in seen) { sub(/^[^ ]* [^ ]* /, ""); print }' \
        "$prepare_state/before" "$prepare_state/after" | LC_ALL=C sort >"$prepare_state/changed" || return 1
    # shellcheck disable=SC2016
    awk '{ line = $0; sub(/^[^ ]* [^ ]* /, "") } NR == FNR { seen[$0]; next } !($0 in seen)' \
        "$prepare_state/after" "$prepare_state/before" | LC_ALL=C sort -r >"$prepare_state/removed" || return 1
    mkdir "$prepare_state/files" || return 1
    while IFS= read -r prepare_file; do
        if [ -d "$prepare_file" ] && [ ! -L "$prepare_file" ]; then
            mkdir -p "$prepare_state/files/$prepare_file" || return 1
        else
            mkdir -p "$prepare_state/files/${prepare_file%/*}" &&
                cp -Pp "$prepare_file" "$prepare_state/files/$prepare_file" || return 1
        fi
    done <"$prepare_state/changed"
    rm -f "$prepare_state/before" "$prepare_state/after" "$prepare_state/changed"
}

# Nothing that is restored may go by way of a symbolic link that the copy has in its place now.
prepare_no_links() {
    while IFS= read -r prepare_file; do
        while [ "$prepare_file" != . ]; do
            [ ! -L "$prepare_file" ] || return 1
            prepare_file=${prepare_file%/*}
        done
    done
}

prepare_restore() {
    { (cd "$prepare_state/files" && find . ! -name .) && cat "$prepare_state/removed"; } | prepare_no_links &&
        cp -RPp "$prepare_state/files/." . || return 1
    while IFS= read -r prepare_file; do
        if [ -d "$prepare_file" ]; then
            rmdir "$prepare_file"
        else
            rm -f "$prepare_file"
        fi
    done <"$prepare_state/removed"
}

# pip's last words, of which it has many: what the build said last, else its own last error, else its last line.
prepare_words() {
    # shellcheck disable=SC2016
    LC_ALL=C awk '
        { gsub(/\033\[[0-9;]*m/, "") }
        /\[end of output\]/ || /^ *-----*$/ { if (line != "") built = line }
        /^ *(ERROR|error):/ && !/: Exception:$/ { error = $0 }
        $0 !~ /^[ \t]*$/ { line = $0 }
        END { print built != "" ? built : error != "" ? error : line }' "$prepare_state/pip.log" |
        LC_ALL=C tr -d '\000-\010\013-\037\177' |
        sed 's/^[[:blank:]]*//; s/^ERROR: *//; s/^error: *//; s/^\(.\{300\}\).*/\1/'
}

prepare_pip() { # EGG...
    prepare_eggs=$#
    for prepare_egg; do
        set -- "$@" -e "$prepare_top${prepare_egg#.}"
    done
    shift "$prepare_eggs"
    (
        unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV
        export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 \
            PIP_NO_COLOR=1 PYTHONNOUSERSITE=1 TMPDIR="$prepare_state/tmp"
        # Not in a project's directory, whose modules could stand before pip's.
        cd / && exec "$prepare_place/bin/$CLOUDPLAN_PYTHON" -m pip install --no-index --no-deps \
            --no-build-isolation "$@"
    ) >"$prepare_state/pip.log" 2>&1 3>&- &
    prepare_child=$!
    wait "$prepare_child"
}

prepare_develop() { # EGG...
    prepare_state=$prepare_top/.cloudplan-develop
    if [ $# = 0 ] || [ -L "$prepare_state" ]; then
        rm -rf "$prepare_state"
        [ $# != 0 ] || return 0
    fi
    for prepare_dir in "$@" "$prepare_venv/bin" "$prepare_venv"/lib/*/site-packages; do
        case $prepare_dir in *'/lib/*/site-packages') continue ;; esac # there is none
        prepare_inside "$prepare_dir" && continue
        prepare_reason="${prepare_dir#./} is no directory of the copy: --rsyncdir and --rsyncignore must not"
        prepare_reason="$prepare_reason leave it out, nor may it be a symbolic link that leads out of it"
        return 1
    done
    prepare_now=$(prepare_digest "$@")
    prepare_before=
    prepare_after=
    prepare_pure=yes
    { read -r prepare_before && read -r prepare_after; } <"$prepare_state/digest"
    if [ -n "$prepare_after" ] && [ "$prepare_now" = "$prepare_before" ]; then
        prepare_restore && [ "$(prepare_digest "$@")" = "$prepare_after" ] && return 0
        # It is neither as it came nor as pip left it: pip has to run, and what it changes is not all.
        prepare_pure=no
    elif [ -n "$prepare_after" ] && [ "$prepare_now" = "$prepare_after" ]; then
        return 0 # no sync has been here since
    fi
    rm -f "$prepare_state/digest"
    rm -rf "$prepare_state"
    if ! prepare_reason=$(mkdir -p "$prepare_state/tmp" 2>&1); then
        return 1
    fi
    [ "$prepare_pure" = no ] || prepare_snapshot "$@" >"$prepare_state/before"
    if ! prepare_pip "$@"; then
        prepare_reason="pip: $(prepare_words) (more in $CLOUDPLAN_CHDIR/.cloudplan-develop/pip.log there)"
        case $prepare_reason in
        *': No module named pip ('*)
            prepare_reason="--cloud-develop-egg needs pip, and the virtualenv has none: run"
            prepare_reason="$prepare_reason $CLOUDPLAN_VENV_FROM/bin/$CLOUDPLAN_PYTHON -m ensurepip"
            ;;
        *': No module named '*)
            prepare_reason="$prepare_reason; what builds it has to be installed in the virtualenv, too"
            ;;
        esac
        return 1
    fi
    rm -rf "$prepare_state/tmp"
    [ "$prepare_pure" = yes ] || return 0
    # Where it cannot be kept (a full disk), pip runs again the next time.
    if prepare_snapshot "$@" >"$prepare_state/after" && prepare_save; then
        printf '%s\n' "$prepare_now" "$(prepare_digest "$@")" >"$prepare_state/digest.new" &&
            mv -f "$prepare_state/digest.new" "$prepare_state/digest"
    fi
    return 0
}

# Whether DIR is a directory that really lies in the copy.
prepare_inside() { # DIR
    prepare_real=$(cd "$1" && pwd -P) || return 1
    case $prepare_real/ in "$prepare_top"/*) ;; *) return 1 ;; esac
}

# The virtualenv of the copy, where it has one.
prepare_python() { # EGG..., relative to the copy
    [ -n "$CLOUDPLAN_VENV" ] || return 0
    prepare_venv=./$CLOUDPLAN_VENV
    [ "$CLOUDPLAN_VENV" != . ] || prepare_venv=.
    if ! prepare_inside "$prepare_venv"; then
        prepare_reason="$CLOUDPLAN_VENV is no directory of the copy: --rsyncignore must not leave it out"
        return 1
    fi
    prepare_place=$prepare_real
    if ! prepare_programs || ! prepare_paths; then
        prepare_reason="paths in $CLOUDPLAN_CHDIR/$CLOUDPLAN_VENV cannot be changed: is the disk full?"
        return 1
    fi
    prepare_eggs=$#
    for prepare_egg; do
        case $prepare_egg in .) set -- "$@" . ;; *) set -- "$@" "./$prepare_egg" ;; esac
    done
    shift "$prepare_eggs"
    prepare_develop "$@"
}

# Sets prepare_reason where it fails.  Changes the directory; to be called in a subshell.
prepare_run() { # EGG..., relative to the copy
    prepare_reason=
    # What stands in its place now must be what the guard has found there.
    # shellcheck disable=SC2154 # the guard's
    if ! cd "$guard_place" || ! prepare_top=$(pwd -P) || [ -L "$guard_place" ] || [ ! -f .cloudplan ]; then
        prepare_reason="$CLOUDPLAN_CHDIR is no longer there"
        return 1
    fi
    if [ -n "$CLOUDPLAN_LINKS" ] && ! prepare_each_place prepare_links_below; then
        prepare_reason="symbolic links in $CLOUDPLAN_CHDIR cannot be changed: is the disk full?"
        return 1
    fi
    prepare_python "$@" || return 1
    # shellcheck disable=SC2154 # the engine's
    [ -z "$CLOUDPLAN_PREPARE" ] || (cd "$guard_place" && "$CLOUDPLAN_PREPARE") || {
        prepare_reason="$CLOUDPLAN_CHDIR could not be made ready for use there"
        return 1
    }
}
