#!/usr/bin/python
"""Several small files in one trip to the node. Ansible's own copy and template take two trips for each."""
import os
import shlex
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: choir_files
short_description: Write several files with their owners and modes
description: A file that is as it should be is not touched; others are replaced in one step, after their validation.
options:
  owner: {description: Of files that name none., type: str, default: root}
  group: {description: Of files that name none., type: str, default: root}
  mode: {description: Of files that name none., type: str, default: "0644"}
  files:
    description: What to write.
    type: list
    elements: dict
    required: true
    suboptions:
      dest: {description: Where., type: path, required: true}
      content: {description: The whole text., type: str, required: true}
      owner: {description: User., type: str}
      group: {description: Group., type: str}
      mode: {description: In octal digits., type: str}
      validate: {description: A command that must succeed before the file is replaced; %s is its name., type: str}
author: Choir authors
"""
EXAMPLES = """
- name: A unit and its settings
  choir_files:
    files:
      - {dest: /etc/systemd/system/x.service, content: "{{ lookup('template', 'x.service.j2') }}"}
      - {dest: /etc/x.conf, content: "{{ lookup('template', 'x.conf.j2') }}", group: x, mode: "0640"}
"""
RETURN = """
written: {description: Files that were changed., returned: always, type: list, elements: str}
"""


def text_of(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def replace(module, path, content, validate):
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
    module.add_cleanup_file(temporary)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
    if validate:
        code, said, complaint = module.run_command([word.replace("%s", temporary) for word in shlex.split(validate)])
        if code:
            module.fail_json(msg=f"{path} would not be valid, so it was left as it is: {(complaint or said).strip()}")
    module.atomic_move(temporary, path)


def main():
    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "default": "root"}, "group": {"type": "str", "default": "root"}, "mode": {"type": "str", "default": "0644"},
            "files": {"type": "list", "elements": "dict", "required": True, "options": {
                "dest": {"type": "path", "required": True}, "content": {"type": "str", "required": True, "no_log": True}, "owner": text, "group": text, "mode": text,
                "validate": text}}},
        supports_check_mode=True)
    written = []
    for file in module.params["files"]:
        path, content = file["dest"], file["content"].encode()
        new = text_of(path) != content
        if new and not module.check_mode:
            replace(module, path, content, file["validate"])
        if os.path.exists(path):
            rights = {key: file[key] or module.params[key] for key in ("owner", "group", "mode")}
            new |= module.set_fs_attributes_if_different(module.load_file_common_arguments({**rights, "path": path}), False)
        if new:
            written.append(path)
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
