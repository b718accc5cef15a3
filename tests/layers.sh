#!/bin/sh
# The layers of src/ (HACKING.md): a folder uses itself and those before it in $order, and no two modules use each other, be it
# by way of others.  Both what is included and what is linked (nm) is looked at.  Also: each name of a function is there once,
# static ones included; includes are written "folder/file.h"; an engine's names are in its own folder alone.
#
# SRCDIR: the source tree; the current directory: the build, whose objects are below src/.
# shellcheck disable=SC2016 # awk's dollars
set -u
order='base nodes plan ssh probe link copy watch engine report run'
srcdir=${SRCDIR:-${srcdir:-.}}
uses=$(mktemp)
trap 'rm -f "$uses"' EXIT

# FROM TO WHY, of modules: folder/name.
(cd "$srcdir/src" && find . -name '*.[ch]' -exec grep -n '^#include "' {} +) | sed 's|^\./||' | awk -F: '{
    from = $1; sub(/\.[ch]$/, "", from)
    to = $3; sub(/^#include "/, "", to); sub(/\.h".*/, "", to)
    print from, to, "src/" $1 ":" $2 " includes it"
}' >"$uses"
find src -name '*.o' | while read -r object; do
    case $object in *embedded_files.o) continue ;; esac
    module=${object#src/}
    # An object that is left of a file that has moved.
    [ -e "$srcdir/src/${module%.o}.c" ] || continue
    nm -P -g "$object" | awk -v module="${module%.o}" '{ print module, $2 == "U" ? "needs" : "has", $1 }'
done | awk '
    $2 == "has" { where[$3] = $1 }
    $2 == "needs" { from[++n] = $1; name[n] = $3 }
    END {
        for (i = 1; i <= n; i++)
            if (name[i] in where && where[name[i]] != from[i]) print from[i], where[name[i]], "it uses " name[i]
    }' >>"$uses"
if ! grep -q ' it uses ' "$uses"; then
    echo "$0: no object below $PWD/src: run make first" >&2
    exit 1
fi

awk -v order="$order" '
    function folder(module) { sub(/\/.*/, "", module); return module }
    BEGIN { count = split(order, name, " "); for (i = 1; i <= count; i++) place[name[i]] = i }
    {
        why = $0; sub(/^[^ ]* [^ ]* /, "", why)
        if ($1 == $2) next
        if (!(folder($1) in place)) print "src/" $1 ": a folder that has no place in the order of layers" > "/dev/stderr"
        else if (!(folder($2) in place)) print "src/" $1 ": \"" $2 ".h\" has no folder: " why > "/dev/stderr"
        else if (place[folder($2)] > place[folder($1)])
            print "src/" $1 " uses src/" $2 ", which is in a layer above it: " why > "/dev/stderr"
        else { if (!(($1, $2) in edge)) { edge[$1, $2] = why; next_of[$1] = next_of[$1] " " $2 } module[$1]; module[$2]; next }
        bad = 1
    }
    # Takes away what uses nothing that is left, until nothing can be taken away: what is left then is in a circle, or uses one.
    END {
        do {
            changed = 0
            for (m in module) {
                left = 0
                n = split(next_of[m], uses, " ")
                for (i = 1; i <= n; i++) if (uses[i] in module) left = 1
                if (!left) { delete module[m]; changed = 1 }
            }
        } while (changed)
        # The same from the other side.
        do {
            changed = 0
            for (m in module) {
                left = 0
                for (e in edge) { split(e, ends, SUBSEP); if (ends[2] == m && ends[1] in module) left = 1 }
                if (!left) { delete module[m]; changed = 1 }
            }
        } while (changed)
        for (e in edge) {
            split(e, ends, SUBSEP)
            if (ends[1] in module && ends[2] in module) {
                print "circle: src/" ends[1] " uses src/" ends[2] ": " edge[e] > "/dev/stderr"
                bad = 1
            }
        }
        exit bad
    }' "$uses"
result=$?

# A name for one thing.
twice=$(cd "$srcdir/src" && find . -name '*.c' -exec grep -nE '^static [^=;]*\(' {} + | sed -E 's|^\./([^:]*):[0-9]+:static [^(]*[ *]([a-z_0-9]+)\(.*|\2 \1|' | sort -u |
    awk '$1 == last { print "two static functions are named " $1 ": in src/" where " and src/" $2 } { last = $1; where = $2 }')
if [ -n "$twice" ]; then
    echo "$twice" >&2
    result=1
fi

# What an engine is called, and what it takes, is known in its own folder alone: src/engine/engine.h.  Comments may name one as an
# example; .pytest_cache is a cache like those of other tools.
for folder in "$srcdir"/src/engine/*/; do
    name=$(basename "$folder")
    options=$(sed -n 's/^    {"\([a-z-]*\)", .*OPTION_ENGINE.*/|--\1/p' "$folder"*.c | tr -d '\n')
    case $name in
    pytest) words='pytest|xdist|execnet|xspec' ;;
    *) words=$name ;;
    esac
    found=$(cd "$srcdir/src" && find . -name '*.[ch]' ! -path "./engine/$name/*" ! -path ./engine/engines.c | while read -r file; do
        sed 's/\.pytest_cache//g' "$file" | awk -v file="src/${file#./}" -v words="$words$options" '
            {
                line = $0
                while (1) {
                    if (within) {
                        if (!(end = index(line, "*/"))) { line = ""; break }
                        line = substr(line, end + 2); within = 0
                    }
                    if (!(start = index(line, "/*"))) break
                    rest = substr(line, start + 2); head = substr(line, 1, start - 1)
                    if ((end = index(rest, "*/"))) line = head substr(rest, end + 2)
                    else { line = head; within = 1; break }
                }
                if (line ~ words) print file ":" NR ": " $0
            }'
    done)
    if [ -n "$found" ]; then
        echo "outside of src/engine/$name something is known of this engine:" >&2
        echo "$found" >&2
        result=1
    fi
done
exit $result
