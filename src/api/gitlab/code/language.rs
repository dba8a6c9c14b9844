//! The language of a file: what answers call it, and what a prompt calls it.
//!
//! A table of our own (ai-gateway-server.md, appendix B). A file whose language is not in it is
//! completed all the same, by its extension's name.

use std::borrow::Cow;

/// A file's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Language<'a> {
    /// `model.lang` of the answer; empty when the table has none.
    pub(super) id: &'static str,
    /// What a prompt calls it.
    pub(super) name: Cow<'a, str>,
}

/// Id, name for people, extensions, and what editors and GitLab call it besides.
struct Row(&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    Row("c", "C", &["c", "h"], &[]),
    Row("cpp", "C++", &["cpp", "hpp", "c++", "h++", "cc", "hh", "cxx", "hxx"], &[]),
    Row("csharp", "C#", &["cs"], &[]),
    Row("go", "Go", &["go"], &[]),
    Row("java", "Java", &["java"], &[]),
    Row("js", "JavaScript", &["js", "jsx", "mjs", "cjs"], &["javascriptreact"]),
    Row("php", "PHP", &["php", "php3", "php4", "php5", "phps", "phpt"], &[]),
    Row("python", "Python", &["py", "pyi", "pyw"], &[]),
    Row("ruby", "Ruby", &["rb", "rake", "gemspec", "ru"], &[]),
    Row("rust", "Rust", &["rs"], &[]),
    Row("scala", "Scala", &["scala", "sc"], &[]),
    Row("ts", "TypeScript", &["ts", "tsx", "mts", "cts"], &["typescriptreact"]),
    Row("kotlin", "Kotlin", &["kt", "kts"], &[]),
    Row("abap", "ABAP", &["abap"], &[]),
    Row("ada", "Ada", &["adb", "ads"], &[]),
    Row("assembly", "Assembly", &["asm", "s"], &[]),
    Row("batch", "Batch", &["bat", "cmd"], &["bat"]),
    Row("clojure", "Clojure", &["clj", "cljs", "cljc", "edn"], &[]),
    Row("cmake", "CMake", &["cmake"], &[]),
    Row("cobol", "COBOL", &["cob", "cbl"], &[]),
    Row("crystal", "Crystal", &["cr"], &[]),
    Row("css", "CSS", &["css"], &[]),
    Row("cuda", "CUDA", &["cu", "cuh"], &["cuda-cpp"]),
    Row("d", "D", &["d"], &[]),
    Row("dart", "Dart", &["dart"], &[]),
    Row("dockerfile", "Dockerfile", &["dockerfile"], &[]),
    Row("elixir", "Elixir", &["ex", "exs"], &[]),
    Row("elm", "Elm", &["elm"], &[]),
    Row("erb", "ERB", &["erb"], &[]),
    Row("erlang", "Erlang", &["erl", "hrl"], &[]),
    Row("fortran", "Fortran", &["f", "f90", "f95", "for"], &[]),
    Row("fsharp", "F#", &["fs", "fsx"], &[]),
    Row("gherkin", "Gherkin", &["feature"], &["cucumber"]),
    Row("graphql", "GraphQL", &["graphql", "gql"], &[]),
    Row("groovy", "Groovy", &["groovy", "gradle"], &[]),
    Row("haml", "Haml", &["haml"], &[]),
    Row("handlebars", "Handlebars", &["hbs"], &[]),
    Row("haskell", "Haskell", &["hs"], &[]),
    Row("hcl", "HCL", &["hcl", "tf", "tfvars"], &["terraform", "opentofu"]),
    Row("html", "HTML", &["html", "htm"], &[]),
    Row("ini", "INI", &["ini", "cfg"], &[]),
    Row("json", "JSON", &["json", "jsonc"], &[]),
    Row("jsonnet", "Jsonnet", &["jsonnet", "libsonnet"], &[]),
    Row("julia", "Julia", &["jl"], &[]),
    Row("less", "Less", &["less"], &[]),
    Row("lean", "Lean", &["lean"], &["lean4"]),
    Row("lisp", "Lisp", &["lisp", "el"], &[]),
    Row("lua", "Lua", &["lua"], &[]),
    Row("makefile", "Makefile", &["mk", "makefile"], &[]),
    Row("markdown", "Markdown", &["md", "markdown", "mdx"], &[]),
    Row("matlab", "MATLAB", &["m"], &[]),
    Row("nix", "Nix", &["nix"], &[]),
    Row("objective_c", "Objective-C", &["mm"], &["objective-c", "objectivec"]),
    Row("ocaml", "OCaml", &["ml", "mli"], &[]),
    Row("pascal", "Pascal", &["pas", "pp"], &[]),
    Row("perl", "Perl", &["pl", "pm"], &[]),
    Row("powershell", "PowerShell", &["ps1", "psm1"], &[]),
    Row("prolog", "Prolog", &["pro"], &[]),
    Row("protobuf", "Protocol Buffers", &["proto"], &["proto3"]),
    Row("puppet", "Puppet", &["epp"], &[]),
    Row("r", "R", &["r"], &[]),
    Row("sass", "Sass", &["sass"], &[]),
    Row("scss", "SCSS", &["scss"], &[]),
    Row("shell", "Shell", &["sh", "bash", "zsh", "fish"], &["shellscript"]),
    Row("solidity", "Solidity", &["sol"], &[]),
    Row("sql", "SQL", &["sql"], &[]),
    Row("svelte", "Svelte", &["svelte"], &[]),
    Row("swift", "Swift", &["swift"], &[]),
    Row("systemverilog", "SystemVerilog", &["sv", "svh"], &[]),
    Row("terraform", "Terraform", &["tofu"], &[]),
    Row("tex", "TeX", &["tex"], &["latex"]),
    Row("toml", "TOML", &["toml"], &[]),
    Row("vb", "Visual Basic", &["vb"], &["visual basic"]),
    Row("vbscript", "VBScript", &["vbs"], &[]),
    Row("verilog", "Verilog", &["v", "vh"], &[]),
    Row("vhdl", "VHDL", &["vhd", "vhdl"], &[]),
    Row("vue", "Vue", &["vue"], &[]),
    Row("xml", "XML", &["xml", "xsd", "xsl"], &[]),
    Row("yaml", "YAML", &["yaml", "yml"], &["dockercompose", "gitlab-ci"]),
    Row("zig", "Zig", &["zig"], &[]),
];

/// The language of a file. `None` when nothing tells: no extension, no name that stands for itself,
/// and nothing from the editor. The official gateway asks no model then (ai-gateway-server.md
/// §1.3).
pub(super) fn of<'a>(file_name: &'a str, editor: Option<&'a str>) -> Option<Language<'a>> {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    // `Dockerfile` and `Makefile` are what other names have behind their dot
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension)
        .filter(|extension| !extension.is_empty());
    let by_file = extension.or(Some(name)).and_then(by_extension);
    let editor = editor.map(str::trim).filter(|editor| !editor.is_empty());
    let row = by_file.or_else(|| editor.and_then(by_name));
    let shown = match (editor, row, extension) {
        (Some(editor), ..) => Cow::Borrowed(editor),
        (None, Some(row), _) => Cow::Borrowed(row.1),
        (None, None, Some(extension)) => Cow::Borrowed(extension),
        (None, None, None) => return None,
    };
    Some(Language { id: row.map_or("", |row| row.0), name: shown })
}

fn by_extension(extension: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.2.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn by_name(name: &str) -> Option<&'static Row> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    ROWS.iter().find(|row| is(&row.0) || is(&row.1) || row.3.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::{ROWS, of};

    #[test]
    fn files_tell_before_editors() {
        let id = |file, editor| of(file, editor).map(|language| language.id);
        assert_eq!(id("src/app.py", None), Some("python"));
        assert_eq!(id("a.PY", Some("Ruby")), Some("python"));
        assert_eq!(id("a.unheard", Some("javascriptreact")), Some("js"));
        assert_eq!(
            id("a.unheard", None),
            Some(""),
            "an unknown extension is completed all the same"
        );
        assert_eq!(id("docker/Dockerfile", None), Some("dockerfile"));
        assert_eq!(id("README", None), None);
        assert_eq!(id("README", Some("C++")), Some("cpp"));
        assert_eq!(id("", Some(" ")), None);
    }

    #[test]
    fn prompts_say_what_the_editor_says() {
        let name = |file, editor| of(file, editor).unwrap().name.into_owned();
        assert_eq!(name("a.py", Some("Python 3")), "Python 3");
        assert_eq!(name("a.cs", None), "C#");
        assert_eq!(name("a.xyz", None), "xyz");
    }

    #[test]
    fn no_extension_is_two_languages() {
        let mut all: Vec<&str> = ROWS.iter().flat_map(|row| row.2).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
