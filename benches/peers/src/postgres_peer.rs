//! PostgreSQL with jsonb: the same indexes, over its own protocol with prepared statements.

use std::collections::HashMap;

use postgres::types::ToSql;
use postgres::{NoTls, Statement};

use crate::work::{Client, Document, FIRST, Find, Index, Peer, RANGE, SIZES, code, group_name};

/// As the indexes have them: an index serves an expression that is written as its own.
const CODE: &str = "((doc->>'code') collate \"C\")";
const GROUP: &str = "((doc->>'group') collate \"C\")";
const SIZE: &str = "((doc->>'size')::int)";

pub struct Postgres {
    parameters: String,
}

impl Postgres {
    pub fn at(parameters: &str) -> Self {
        Self { parameters: parameters.to_owned() }
    }
}

impl Peer for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn client(&self) -> Box<dyn Client + '_> {
        let connection = postgres::Client::connect(&self.parameters, NoTls);
        Box::new(Connected {
            connection: connection.expect("a connection"),
            prepared: HashMap::new(),
        })
    }
}

struct Connected {
    connection: postgres::Client,
    prepared: HashMap<String, Statement>,
}

impl Connected {
    fn statement(&mut self, text: String) -> Statement {
        if let Some(known) = self.prepared.get(&text) {
            return known.clone();
        }
        let statement = self.connection.prepare(&text).expect("a statement");
        self.prepared.insert(text, statement.clone());
        statement
    }

    fn run(&mut self, text: String, parameters: &[&(dyn ToSql + Sync)]) -> u64 {
        let statement = self.statement(text);
        self.connection.execute(&statement, parameters).expect("it runs")
    }

    fn rows(&mut self, text: String, parameters: &[&(dyn ToSql + Sync)]) -> u64 {
        let statement = self.statement(text);
        self.connection.query(&statement, parameters).expect("it runs").len() as u64
    }

    fn all(&mut self, text: &str) {
        self.connection.batch_execute(text).expect("it runs");
    }
}

impl Client for Connected {
    fn create(&mut self, collection: &str) {
        self.all(&format!("create table {collection} (id bigint primary key, doc jsonb)"));
    }

    fn insert(&mut self, collection: &str, documents: &[Document]) {
        let numbers: Vec<i64> = documents.iter().map(|document| document.number as i64).collect();
        let texts: Vec<String> = documents.iter().map(Document::json).collect();
        let text = format!(
            "insert into {collection} select id, doc::jsonb from unnest($1::bigint[], $2::text[]) as new (id, doc)"
        );
        self.run(text, &[&numbers, &texts]);
    }

    fn index(&mut self, collection: &str, index: Index) {
        let (name, on) = match index {
            Index::Code => ("code", CODE.to_owned()),
            Index::GroupAndSize => ("sizes", format!("{GROUP}, {SIZE}")),
        };
        self.all(&format!(
            "create index {collection}_{name} on {collection} ({on}); analyze {collection}"
        ));
    }

    fn find(&mut self, collection: &str, find: Find) -> u64 {
        let select = format!("select doc::text from {collection} where");
        match find {
            Find::Id(number) => self.rows(format!("{select} id = $1"), &[&(number as i64)]),
            Find::Code(number) => self.rows(format!("{select} {CODE} = $1"), &[&code(number)]),
            Find::Codes(from) => self.rows(
                format!("{select} {CODE} >= $1 and {CODE} < $2 order by {CODE}"),
                &[&code(from), &code(from + RANGE)],
            ),
            Find::Sizes(group) => self.rows(
                format!("{select} {GROUP} = $1 and {SIZE} >= $2 and {SIZE} < $3"),
                &[&group_name(group), &(SIZES.start as i32), &(SIZES.end as i32)],
            ),
            Find::Largest(group) => self.rows(
                format!("{select} {GROUP} = $1 order by {SIZE} desc limit {FIRST}"),
                &[&group_name(group)],
            ),
            Find::Balance(from) => {
                let text = format!(
                    "select count(*) from {collection} where (doc->>'balance')::float8 >= $1"
                );
                let statement = self.statement(text);
                let row =
                    self.connection.query_one(&statement, &[&(from as f64)]).expect("a count");
                row.get::<_, i64>(0) as u64
            }
        }
    }

    fn update(&mut self, collection: &str, number: u64) -> u64 {
        let text = format!(
            "update {collection} set doc = jsonb_set(doc, '{{counter}}', to_jsonb((doc->>'counter')::int + 1)) where {CODE} = $1"
        );
        self.run(text, &[&code(number)])
    }

    fn delete(&mut self, collection: &str, number: u64) -> u64 {
        self.run(format!("delete from {collection} where {CODE} = $1"), &[&code(number)])
    }
}
