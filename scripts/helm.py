"""The commands of scripts/helm: helm's own words for what the Helm engine of helm-python-sdk does.

Values are read and merged by the engine's own YAML reader, files first, then --set, as helm does.
"""

import argparse
import json
import os
import re
import sys

import helm_python as helm

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text):
    """A duration as helm takes it: 90s, 5m, 1m30s."""
    if not re.fullmatch(r"\d+|(\d+[smh])+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s or 5m")
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh]?)", text))


def merged(below, above):
    """Values above win; objects are merged, everything else is replaced."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def values(args):
    result = {}
    for file in args.values:
        text = sys.stdin.read() if file == "-" else open(file, encoding="utf-8").read()
        result = merged(result, helm.values_from_yaml(text) or {})
    for pair in args.set:
        result = merged(result, helm.parse_set_string(pair))
    for pair in args.set_json:
        key, _, text = pair.partition("=")
        value = json.loads(text)
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merged(result, value)
    return result


def config(args):
    return helm.Config(namespace=args.namespace, kubeconfig_path=args.kubeconfig, kube_context=args.kube_context)


def told(release):
    for key in ("name", "namespace", "status", "revision"):
        if key in release:
            print(f"{key.upper()}: {release[key]}")
    notes = release.get("notes") or (release.get("info") or {}).get("notes")
    if notes:
        print(f"NOTES:\n{notes}")


def lasting(args):
    return {"timeout": args.timeout, "wait": "watcher" if args.wait else "hookOnly"}


def install(args):
    with config(args) as cfg:
        told(cfg.install(args.chart, args.release, values(args), namespace=args.namespace,
                         create_namespace=args.create_namespace, **lasting(args)))


def upgrade(args):
    with config(args) as cfg:
        if args.install:
            try:
                cfg.status(args.release)
            except helm.HelmNotFoundError:
                cfg.install(args.chart, args.release, values(args), namespace=args.namespace,
                            create_namespace=args.create_namespace, **lasting(args))
                told(cfg.status(args.release))
                return
        given, again = values(args), args.reset_then_reuse_values
        if again:
            # The engine knows this word of helm's only in its command: what was set before, over the new defaults.
            given = merged(cfg.get_values(args.release) or {}, given)
        told(cfg.upgrade(args.chart, args.release, given, namespace=args.namespace, reuse_values=args.reuse_values,
                         reset_values=args.reset_values or again, **lasting(args)))


def rollback(args):
    with config(args) as cfg:
        cfg.rollback(args.release, version=args.revision, **lasting(args))
    print("Rollback was a success! Happy Helming!")


def uninstall(args):
    with config(args) as cfg:
        cfg.uninstall(args.release, keep_history=args.keep_history, ignore_not_found=args.ignore_not_found,
                      **lasting(args))
    print(f'release "{args.release}" uninstalled')


def status(args):
    with config(args) as cfg:
        told(cfg.status(args.release))


def get(args):
    with config(args) as cfg:
        if args.what == "values":
            print(json.dumps(cfg.get_values(args.release, all_values=args.all), indent=2))
        else:
            print(cfg.status(args.release)["manifest"])


def table(releases, columns):
    print("\t".join(column.upper() for column in columns))
    for release in releases:
        print("\t".join(str(release.get(column, "")) for column in columns))


def history(args):
    with config(args) as cfg:
        table(cfg.history(args.release), ("revision", "status", "chart", "description"))


def list_(args):
    with config(args) as cfg:
        table(cfg.list(all_namespaces=args.all_namespaces), ("name", "namespace", "revision", "status", "chart"))


def lint(args):
    result = helm.lint(args.chart, values(args))
    print(json.dumps(result, indent=2))
    messages = result.get("messages", []) if isinstance(result, dict) else result
    # Severities of Helm's linter: 1 info, 2 warning, 3 error.
    limit = 2 if args.strict else 3
    bad = [one for one in messages if one.get("severity") in (limit, 3, "ERROR", "error")]
    sys.exit(1 if bad else 0)


def template(args):
    with helm.Chart.load(args.chart) as chart:
        given = values(args)
        chart.validate_schema(given)
        manifests = chart.render(given, name=args.release, namespace=args.namespace or "default", is_install=True)
    for path in sorted(manifests):
        if path.endswith((".txt", ".tpl")) or (args.show_only and not is_named(path, args.show_only)):
            continue
        for text in documents(manifests[path]):
            if not (args.no_hooks and is_hook(text)):
                print(f"---\n# Source: {path}\n{text}")


def is_named(path, names):
    """Whether a template has one of these names: the end of its path, from the beginning of a part."""
    return any(f"/{path}".endswith(f"/{name}") for name in names)


def documents(text):
    """The documents of a rendered template, those without an object left out."""
    every = (one.strip() for one in re.split(r"^---\s*$", text, flags=re.MULTILINE))
    return [one for one in every if one and helm.values_from_yaml(one)]


def is_hook(text):
    metadata = helm.values_from_yaml(text).get("metadata") or {}
    return "helm.sh/hook" in (metadata.get("annotations") or {})


def version(_):
    print(f"Helm {helm.helm_sdk_version()} (helm-python-sdk {helm.__version__})")


def parser():
    top = argparse.ArgumentParser(prog="helm", description="The Helm engine, with helm's own words.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name, act, *places, also=()):
        one = commands.add_parser(name, aliases=list(also))
        one.set_defaults(act=act)
        for place, more in places:
            one.add_argument(place, **more)
        one.add_argument("-n", "--namespace")
        one.add_argument("--kubeconfig")
        one.add_argument("--kube-context")
        return one

    def lasts(one):
        one.add_argument("--wait", nargs="?", const="watcher", default=None)
        one.add_argument("--timeout", type=seconds, default=300)

    def valued(one):
        one.add_argument("-f", "--values", action="append", default=[])
        one.add_argument("--set", action="append", default=[])
        one.add_argument("--set-json", action="append", default=[])

    release, chart = ("release", {}), ("chart", {})
    one = command("install", install, release, chart)
    one.add_argument("--create-namespace", action="store_true")
    lasts(one), valued(one)
    one = command("upgrade", upgrade, release, chart)
    one.add_argument("-i", "--install", action="store_true")
    one.add_argument("--create-namespace", action="store_true")
    one.add_argument("--reuse-values", action="store_true")
    one.add_argument("--reset-values", action="store_true")
    one.add_argument("--reset-then-reuse-values", action="store_true")
    lasts(one), valued(one)
    one = command("rollback", rollback, release, ("revision", {"type": int, "nargs": "?"}))
    lasts(one)
    one = command("uninstall", uninstall, release, also=("delete",))
    one.add_argument("--keep-history", action="store_true")
    one.add_argument("--ignore-not-found", action="store_true")
    lasts(one)
    command("status", status, release)
    one = command("get", get, ("what", {"choices": ["values", "manifest"]}), release)
    one.add_argument("-a", "--all", action="store_true")
    command("history", history, release)
    one = command("list", list_, also=("ls",))
    one.add_argument("-A", "--all-namespaces", action="store_true")
    one = command("lint", lint, chart)
    one.add_argument("--strict", action="store_true")
    valued(one)
    one = command("template", template, release, chart)
    valued(one)
    one.add_argument("--no-hooks", action="store_true")
    one.add_argument("-s", "--show-only", action="append", default=[])
    command("version", version)
    return top


def main():
    args = parser().parse_args()
    args.namespace = getattr(args, "namespace", None) or os.environ.get("HELM_NAMESPACE")
    try:
        args.act(args)
    except (helm.HelmError, OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
