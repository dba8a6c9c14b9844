//! The language of a file: its id in responses and its name in prompts.
//!
//! A table of our own (contract::ai_gateway_server §B). A file whose language is not in it is
//! completed all the same, with its extension as the language's name.

use std::borrow::Cow;

/// A file's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Language<'a> {
    /// `model.lang` of the response; empty if the table has none.
    pub(super) id: &'static str,
    /// Its name in prompts.
    pub(super) name: Cow<'a, str>,
}

/// One language of the table.
struct Row {
    id: &'static str,
    /// The name in prompts.
    name: &'static str,
    extensions: &'static [&'static str],
    /// Other names that editors and GitLab send.
    aliases: &'static [&'static str],
}

/// Creates a row of the table.
const fn row(
    id: &'static str,
    name: &'static str,
    extensions: &'static [&'static str],
    aliases: &'static [&'static str],
) -> Row {
    Row { id, name, extensions, aliases }
}

const ROWS: &[Row] = &[
    row("c", "C", &["c", "h"], &[]),
    row("cpp", "C++", &["cpp", "hpp", "c++", "h++", "cc", "hh", "cxx", "hxx"], &[]),
    row("csharp", "C#", &["cs"], &[]),
    row("go", "Go", &["go"], &[]),
    row("java", "Java", &["java"], &[]),
    row("js", "JavaScript", &["js", "jsx", "mjs", "cjs"], &["javascriptreact"]),
    row("php", "PHP", &["php", "php3", "php4", "php5", "phps", "phpt"], &[]),
    row("python", "Python", &["py", "pyi", "pyw"], &[]),
    row("ruby", "Ruby", &["rb", "rake", "gemspec", "ru"], &[]),
    row("rust", "Rust", &["rs"], &[]),
    row("scala", "Scala", &["scala", "sc"], &[]),
    row("ts", "TypeScript", &["ts", "tsx", "mts", "cts"], &["typescriptreact"]),
    row("kotlin", "Kotlin", &["kt", "kts"], &[]),
    row("abap", "ABAP", &["abap"], &[]),
    row("ada", "Ada", &["adb", "ads"], &[]),
    row("assembly", "Assembly", &["asm", "s"], &[]),
    row("batch", "Batch", &["bat", "cmd"], &["bat"]),
    row("clojure", "Clojure", &["clj", "cljs", "cljc", "edn"], &[]),
    row("cmake", "CMake", &["cmake"], &[]),
    row("cobol", "COBOL", &["cob", "cbl"], &[]),
    row("crystal", "Crystal", &["cr"], &[]),
    row("css", "CSS", &["css"], &[]),
    row("cuda", "CUDA", &["cu", "cuh"], &["cuda-cpp"]),
    row("d", "D", &["d"], &[]),
    row("dart", "Dart", &["dart"], &[]),
    row("dockerfile", "Dockerfile", &["dockerfile"], &[]),
    row("elixir", "Elixir", &["ex", "exs"], &[]),
    row("elm", "Elm", &["elm"], &[]),
    row("erb", "ERB", &["erb"], &[]),
    row("erlang", "Erlang", &["erl", "hrl"], &[]),
    row("fortran", "Fortran", &["f", "f90", "f95", "for"], &[]),
    row("fsharp", "F#", &["fs", "fsx"], &[]),
    row("gherkin", "Gherkin", &["feature"], &["cucumber"]),
    row("graphql", "GraphQL", &["graphql", "gql"], &[]),
    row("groovy", "Groovy", &["groovy", "gradle"], &[]),
    row("haml", "Haml", &["haml"], &[]),
    row("handlebars", "Handlebars", &["hbs"], &[]),
    row("haskell", "Haskell", &["hs"], &[]),
    row("hcl", "HCL", &["hcl", "tf", "tfvars"], &["terraform", "opentofu"]),
    row("html", "HTML", &["html", "htm"], &[]),
    row("ini", "INI", &["ini", "cfg"], &[]),
    row("json", "JSON", &["json", "jsonc"], &[]),
    row("jsonnet", "Jsonnet", &["jsonnet", "libsonnet"], &[]),
    row("julia", "Julia", &["jl"], &[]),
    row("less", "Less", &["less"], &[]),
    row("lean", "Lean", &["lean"], &["lean4"]),
    row("lisp", "Lisp", &["lisp", "el"], &[]),
    row("lua", "Lua", &["lua"], &[]),
    row("makefile", "Makefile", &["mk", "makefile"], &[]),
    row("markdown", "Markdown", &["md", "markdown", "mdx"], &[]),
    row("matlab", "MATLAB", &["m"], &[]),
    row("nix", "Nix", &["nix"], &[]),
    row("objective_c", "Objective-C", &["mm"], &["objective-c", "objectivec"]),
    row("ocaml", "OCaml", &["ml", "mli"], &[]),
    row("pascal", "Pascal", &["pas", "pp"], &[]),
    row("perl", "Perl", &["pl", "pm"], &[]),
    row("powershell", "PowerShell", &["ps1", "psm1"], &[]),
    row("prolog", "Prolog", &["pro"], &[]),
    row("protobuf", "Protocol Buffers", &["proto"], &["proto3"]),
    row("puppet", "Puppet", &["epp"], &[]),
    row("r", "R", &["r"], &[]),
    row("sass", "Sass", &["sass"], &[]),
    row("scss", "SCSS", &["scss"], &[]),
    row("shell", "Shell", &["sh", "bash", "zsh", "fish"], &["shellscript"]),
    row("solidity", "Solidity", &["sol"], &[]),
    row("sql", "SQL", &["sql"], &[]),
    row("svelte", "Svelte", &["svelte"], &[]),
    row("swift", "Swift", &["swift"], &[]),
    row("systemverilog", "SystemVerilog", &["sv", "svh"], &[]),
    row("terraform", "Terraform", &["tofu"], &[]),
    row("tex", "TeX", &["tex"], &["latex"]),
    row("toml", "TOML", &["toml"], &[]),
    row("vb", "Visual Basic", &["vb"], &["visual basic"]),
    row("vbscript", "VBScript", &["vbs"], &[]),
    row("verilog", "Verilog", &["v", "vh"], &[]),
    row("vhdl", "VHDL", &["vhd", "vhdl"], &[]),
    row("vue", "Vue", &["vue"], &[]),
    row("xml", "XML", &["xml", "xsd", "xsl"], &[]),
    row("yaml", "YAML", &["yaml", "yml"], &["dockercompose", "gitlab-ci"]),
    row("zig", "Zig", &["zig"], &[]),
];

/// Detects the language of a file by its name, else by the editor's language identifier. `None` if
/// there is no extension, no well-known file name and no identifier: the official gateway then
/// answers without calling a model (contract::ai_gateway_server §1.3).
pub(super) fn detect<'a>(file_name: &'a str, editor: Option<&'a str>) -> Option<Language<'a>> {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    // `Dockerfile` and `Makefile` are in the table as extensions
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension)
        .filter(|extension| !extension.is_empty());
    let by_file = extension.or(Some(name)).and_then(by_extension);
    let editor = editor.map(str::trim).filter(|editor| !editor.is_empty());
    let row = by_file.or_else(|| editor.and_then(by_name));
    let name = match (editor, row, extension) {
        (Some(editor), ..) => Cow::Borrowed(editor),
        (None, Some(row), _) => Cow::Borrowed(row.name),
        (None, None, Some(extension)) => Cow::Borrowed(extension),
        (None, None, None) => return None,
    };
    Some(Language { id: row.map_or("", |row| row.id), name })
}

fn by_extension(extension: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn by_name(name: &str) -> Option<&'static Row> {
    let matches = |known: &&str| known.eq_ignore_ascii_case(name);
    ROWS.iter()
        .find(|row| matches(&row.id) || matches(&row.name) || row.aliases.iter().any(matches))
}

#[cfg(test)]
mod tests {
    use super::{ROWS, detect};

    #[test]
    fn file_names_take_precedence_over_editors() {
        let id = |file, editor| detect(file, editor).map(|language| language.id);
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
    fn prompts_use_the_editors_name() {
        let name = |file, editor| detect(file, editor).unwrap().name.into_owned();
        assert_eq!(name("a.py", Some("Python 3")), "Python 3");
        assert_eq!(name("a.cs", None), "C#");
        assert_eq!(name("a.xyz", None), "xyz");
    }

    #[test]
    fn no_extension_has_two_languages() {
        let mut all: Vec<&str> = ROWS.iter().flat_map(|row| row.extensions).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
